//! The models with a name, and which of them suits a machine.

use serde::Deserialize;

use crate::Error;

/// The models that can be asked for by name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    #[serde(rename = "model")]
    models: Vec<Model>,
}

/// One of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What users call it.
    pub name: String,
    /// `owner/name` on Hugging Face; none for what is inside the program.
    pub repository: Option<String>,
    /// The file's name, there and here.
    pub file: Option<String>,
    /// Its exact bytes, if they are known.
    pub size: Option<u64>,
    /// About how many decimal gigabytes it has.
    pub size_gb: f64,
    /// Its SHA-256 in lower-case hexadecimal digits, if it is known.
    pub sha256: Option<String>,
    /// How many decimal gigabytes of memory a machine needs for it.
    pub ram_gb: u64,
    /// From how many on it is what suits a machine, if it ever is.
    pub picked_from_gb: Option<u64>,
    /// Whether it only drafts for another one and does not answer by itself.
    #[serde(default)]
    pub drafting: bool,
    /// A line about it.
    pub about: String,
}

/// What suits a machine, and why.
#[derive(Debug)]
pub struct Pick<'a> {
    /// The model.
    pub model: &'a Model,
    /// One line: what the machine has, and what follows.
    pub why: String,
    /// What the user has to do before it runs well.
    pub note: Option<String>,
}

/// How much of a 96 GB Mac the GPU may use for V4 Flash, in megabytes.
const WIRED_LIMIT_MB: u32 = 92_000;

impl Default for Catalogue {
    fn default() -> Self {
        Self::new()
    }
}

impl Catalogue {
    /// The catalogue of this version of ds4.
    pub fn new() -> Self {
        toml::from_str(include_str!("../catalogue.toml")).expect("catalogue.toml is part of the program and tested")
    }

    /// All models.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model called `name`.
    pub fn find(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The names, for messages.
    pub fn names(&self) -> String {
        self.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// What suits a machine with so many bytes of memory: of the models that are picked, the one that asks for most of it.
    ///
    /// # Errors
    /// Less memory, or an unknown amount: the message says what to ask for instead.
    pub fn pick(&self, ram: Option<u64>, macos: bool) -> Result<Pick<'_>, Error> {
        let Some(ram) = ram else {
            let message = "this system does not say how much memory it has; name a model: ds4 models lists them";
            return Err(Error::Memory(message.into()));
        };
        let gb = ram / 1_000_000_000;
        let picked = self.models.iter().filter(|model| model.picked_from_gb.is_some_and(|least| least <= gb));
        let model = picked.max_by_key(|model| model.picked_from_gb);
        let model = model.ok_or_else(|| Error::Memory(self.too_small(gb)))?;
        let name = &model.name;
        let why =
            format!("{name}, because this machine has {gb} GB of memory; ds4 pull NAME takes another (ds4 models)");
        let tight = "V4 Flash just fits: close other programs and start with a context of at most 250000 (--ctx)";
        let wired = format!("for the GPU to reach that much: sudo sysctl iogpu.wired_limit_mb={WIRED_LIMIT_MB}");
        let note = (gb < 128).then(|| if macos { format!("{tight}; {wired}") } else { tight.into() });
        Ok(Pick { model, why, note })
    }

    fn too_small(&self, gb: u64) -> String {
        let least = self.models.iter().filter_map(|model| model.picked_from_gb).min();
        format!(
            "V4 Flash needs {} GB of memory and this machine has {gb} GB; `mini`, inside ds4, fits (ds4 -p \"Hello\"). \
             ds4 pull NAME fetches a model anyway (ds4 models lists them); --allow-oversubscribe runs it from the disk, slowly",
            least.unwrap_or_default()
        )
    }
}

impl Model {
    /// Its bytes: exact, or about.
    pub fn bytes(&self) -> u64 {
        self.size.unwrap_or((self.size_gb * 1e9) as u64)
    }

    /// Whether a machine with so many bytes of memory holds it.
    pub fn fits(&self, ram: u64) -> bool {
        ram / 1_000_000_000 >= self.ram_gb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn names_stand_for_the_files_that_are_published() {
        let catalogue = Catalogue::new();
        let file = |name| catalogue.find(name).and_then(|m| m.file.as_deref()).expect("it is in the catalogue");
        let flash = |tail: &str| format!("DeepSeek-V4-Flash-{tail}");
        let q2 = "IQ2XXS-w2Q2K-AProjQ8-SExpQ8-OutQ8-chat-v2";
        let q4 = "Q4KExperts-F16HC-F16Compressor-F16Indexer-Q8Attn-Q8Shared-Q8Out-chat-v2";
        assert_eq!(file("q2"), flash(&format!("{q2}.gguf")));
        assert_eq!(file("q2-imatrix"), flash(&format!("{q2}-imatrix.gguf")));
        assert_eq!(file("q4"), flash(&format!("{q4}.gguf")));
        assert_eq!(file("q4-imatrix"), flash(&format!("{q4}-imatrix.gguf")));
        assert_eq!(file("mtp"), flash("MTP-Q4K-Q8_0-F32.gguf"));
        let aligned = catalogue.find("aligned-imatrix").expect("it is in the catalogue");
        let repository = aligned.repository.as_deref();
        assert_eq!(repository, Some("audreyt/CyberNeurova-DeepSeek-V4-Flash-abliterated-GGUF"));
        assert_eq!(
            file("aligned-imatrix"),
            format!("cyberneurova-{}", flash(&format!("abliterated-{q2}-imatrix-aligned.gguf")))
        );
        for model in catalogue.models() {
            assert_eq!(model.drafting, model.name == "mtp");
            assert_eq!(model.repository.is_some(), model.name != "mini", "{}", model.name);
            assert_eq!(model.file.is_some(), model.repository.is_some(), "{}", model.name);
            assert!(model.sha256.as_ref().is_none_or(|sum| crate::verify::is_sha256(sum)), "{}", model.name);
        }
    }

    #[test]
    fn memory_chooses_the_model_and_says_why() {
        let catalogue = Catalogue::new();
        let pick = |gb, macos| catalogue.pick(Some(gb * GB), macos).expect("something fits");
        for (gb, name) in
            [(96, "q2-imatrix"), (128, "q2-imatrix"), (255, "q2-imatrix"), (256, "q4-imatrix"), (512, "q4-imatrix")]
        {
            let pick = pick(gb, false);
            assert_eq!(pick.model.name, name, "{gb} GB");
            assert!(
                pick.why.starts_with(&format!("{name}, because this machine has {gb} GB of memory")),
                "{}",
                pick.why
            );
            assert_eq!(pick.note.is_some(), gb < 128);
        }
        // What a Mac sold with 128 GB says it has.
        assert_eq!(catalogue.pick(Some(128 << 30), true).expect("fits").note, None);
        let note = pick(96, true).note.expect("96 GB are tight");
        assert!(note.ends_with("sudo sysctl iogpu.wired_limit_mb=92000"), "{note}");
    }

    #[test]
    fn what_is_picked_and_what_drafts_is_said_in_the_list() {
        let toml =
            |name, more| format!("[[model]]\nname = \"{name}\"\nsize_gb = 1\nram_gb = 1\nabout = \"\"\n{more}\n");
        let list = toml("a", "picked_from_gb = 8") + &toml("b", "picked_from_gb = 16") + &toml("c", "drafting = true");
        let catalogue: Catalogue = toml::from_str(&list).expect("a list");
        let picked = |gb| catalogue.pick(Some(gb * GB), false).map(|pick| pick.model.name.clone());
        assert_eq!([8, 15, 16].map(|gb| picked(gb).expect("something fits")), ["a", "a", "b"]);
        assert!(picked(7).expect_err("nothing fits").to_string().contains("needs 8 GB"));
        assert_eq!(catalogue.models().iter().map(|model| model.drafting).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn a_small_machine_is_told_what_it_can_do() {
        let small = Catalogue::new().pick(Some(95 * GB), false).expect_err("nothing fits").to_string();
        for part in ["needs 96 GB", "has 95 GB", "`mini`", "ds4 pull NAME", "ds4 models", "--allow-oversubscribe"] {
            assert!(small.contains(part), "{part}: {small}");
        }
        assert!(!small.contains('\n'));
        Catalogue::new().pick(None, false).expect_err("nothing is known");
    }
}
