//! The licences of the libraries: none but those of `deny.toml`, and the report that a copy of the program must come with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use spdx::{Expression, Licensee, ParseMode};

use crate::cargo;

const RULES: &str = "deny.toml";
const REPORT: &str = "target/licences.txt";
/// How the names of files with licences begin, in small letters.
const NAMES: [&str; 5] = ["license", "licence", "copying", "notice", "unlicense"];

/// What `deny.toml` says here.
#[derive(serde::Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licenses,
}

#[derive(serde::Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Licenses {
    /// SPDX identifiers, the preferred ones first.
    allow: Vec<String>,
}

/// Checks all libraries and writes the report of those that the program consists of.
pub(crate) fn run() -> bool {
    match report() {
        Ok((libraries, text)) => {
            println!(
                "licences: {libraries} libraries in the program; their texts: {REPORT} ({} KB)",
                text.len() / 1000
            );
            true
        }
        Err(refused) => {
            refused.iter().for_each(|line| eprintln!("licences: {line}"));
            false
        }
    }
}

/// Writes the report; how many libraries it names, and its text. Or everything that is wrong.
fn report() -> Result<(usize, String), Vec<String>> {
    let rules = fs::read_to_string(RULES).map_err(|error| error.to_string());
    let rules: Rules = rules
        .and_then(|text| toml::from_str(&text).map_err(|error| error.to_string()))
        .map_err(|why| vec![format!("{RULES}: {why}")])?;
    let metadata = metadata(&rules.graph.targets).map_err(|why| vec![why])?;
    let allowed = rules.licenses.allow.iter().map(|name| Licensee::parse(name));
    let allowed: Vec<Licensee> =
        allowed.collect::<Result<_, _>>().map_err(|error| vec![format!("{RULES}: licenses.allow: {error}")])?;

    let (mut chosen, mut refused) = (BTreeMap::new(), Vec::new());
    for package in metadata.packages.iter().filter(|package| package.source.is_some()) {
        match choose(package.license.as_deref().unwrap_or(""), &allowed) {
            Ok(licences) => _ = chosen.insert(&package.id, licences),
            Err(why) => refused.push(format!("{} {}: {why}; see {RULES}", package.name, package.version)),
        }
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let inside = inside(&metadata);
    let libraries: Vec<(&Package, &Vec<String>)> = metadata
        .packages
        .iter()
        .filter(|package| inside.contains(&package.id))
        .filter_map(|package| Some((package, chosen.get(&package.id)?)))
        .collect();
    let text = write(&libraries).map_err(|why| vec![why])?;
    fs::write(REPORT, &text).map_err(|error| vec![format!("{REPORT}: {error}")])?;
    Ok((libraries.len(), text))
}

/// What cargo knows of this workspace and its libraries on these machines.
fn metadata(targets: &[String]) -> Result<Metadata, String> {
    let platforms = targets.iter().flat_map(|target| ["--filter-platform".to_string(), target.clone()]);
    let options: Vec<String> = ["--locked".to_string()].into_iter().chain(platforms).collect();
    let mut command = MetadataCommand::new();
    command.cargo_path(cargo(&[]).get_program()).other_options(options);
    command.exec().map_err(|error| format!("cargo metadata: {error}"))
}

/// The licences under which a library is taken: the preferred ones among what its SPDX expression offers.
fn choose(expression: &str, allowed: &[Licensee]) -> Result<Vec<String>, String> {
    // Older manifests say MIT/Apache-2.0.
    let parsed = Expression::parse_mode(expression, ParseMode::LAX)
        .map_err(|error| format!("licence {expression:?}: {}", error.reason))?;
    let chosen = parsed.minimized_requirements(allowed);
    let chosen = chosen.map_err(|_| format!("licence {expression:?} is not among those that are allowed"))?;
    Ok(chosen.iter().map(ToString::to_string).collect())
}

/// The packages that the program is built from, itself among them; without what only tests and build scripts need.
fn inside(metadata: &Metadata) -> BTreeSet<&PackageId> {
    let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
    let nodes: BTreeMap<&PackageId, _> = nodes.map(|node| (&node.id, node)).collect();
    let mut open: Vec<&PackageId> =
        metadata.packages.iter().filter(|package| *package.name == "ds4").map(|package| &package.id).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !found.insert(id) {
            continue;
        }
        let needed = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        let linked = needed.filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
        open.extend(linked.map(|dep| &dep.pkg));
    }
    found
}

/// The report: our own licence, the libraries with theirs, and every text once.
fn write(libraries: &[(&Package, &Vec<String>)]) -> Result<String, String> {
    let read = |name: &str| fs::read_to_string(name).map_err(|error| format!("{name}: {error}"));
    let mut report = format!("{}\n{}\nds4 contains the following libraries.\n\n", read("LICENSE")?, read("NOTICE")?);
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (package, licences) in libraries {
        let name = format!("{} {}", package.name, package.version);
        let home = package.repository.as_deref().unwrap_or("");
        _ = writeln!(report, "- {name}, {}, {home}", licences.join(" AND "));
        let folder = package.manifest_path.parent().ok_or_else(|| format!("{name}: no folder"))?;
        for text in texts_of(folder.as_std_path(), package, licences)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    for (text, names) in texts {
        _ = write!(report, "\n{}\n\nOf {}:\n\n{}\n", "-".repeat(80), names.join(", "), text.trim_end());
    }
    Ok(report)
}

/// The texts that a library comes with; of one that brings none, the licence's own text under its authors' names.
fn texts_of(folder: &Path, package: &Package, licences: &[String]) -> Result<Vec<String>, String> {
    let broken = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if NAMES.iter().any(|begin| name.starts_with(begin)) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    if files.is_empty() {
        let authors = package.authors.join(", ");
        let standard = licences.iter().filter_map(|name| spdx::license_id(name));
        return Ok(standard.map(|licence| format!("Copyright: {authors}\n\n{}", licence.text())).collect());
    }
    let text =
        |path: &std::path::PathBuf| Ok(String::from_utf8_lossy(&fs::read(path).map_err(broken)?).replace('\r', ""));
    files.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(expression: &str) -> Result<Vec<String>, String> {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(|name| Licensee::parse(name).unwrap());
        choose(expression, &allowed)
    }

    #[test]
    fn the_preferred_licence_is_taken() {
        assert_eq!(choice("Apache-2.0 OR MIT").unwrap(), ["MIT"]);
        assert_eq!(choice("MIT/Apache-2.0").unwrap(), ["MIT"]);
        assert_eq!(choice("GPL-3.0-only OR Apache-2.0").unwrap(), ["Apache-2.0"]);
        assert_eq!(choice("(MIT OR Apache-2.0) AND Unicode-3.0").unwrap(), ["MIT", "Unicode-3.0"]);
    }

    #[test]
    fn what_is_not_allowed_or_not_said_is_refused() {
        assert_eq!(choice("GPL-3.0-only").unwrap_err(), "licence \"GPL-3.0-only\" is not among those that are allowed");
        assert!(choice("MIT AND GPL-3.0-only").is_err());
        assert!(choice("").unwrap_err().starts_with("licence \"\": "));
    }
}
