//! The names of tool calls: `call_` or `toolu_` and 32 hex digits, random, or derived from the request's seed.

use crate::queue::Task;
use crate::request::random;

/// How an API names things.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) api: &'static str,
    /// How ids of answers begin, and ids of calls.
    pub(crate) answer: &'static str,
    pub(crate) call: &'static str,
}

/// Names the calls of one answer.
#[derive(Debug)]
pub(crate) struct CallIds {
    prefix: &'static str,
    /// All that the ids depend on besides place and name; none where they are random.
    seeded: Option<Vec<u8>>,
    index: usize,
}

/// Separates fields; no text has it.
const FIELD: u8 = 0xFF;

impl CallIds {
    /// Names for the calls of a task. With a seed, the same request gets the same ids, as it gets the same answer.
    pub(crate) fn new(style: &Style, seed: Option<u64>, model: &str, task: &Task) -> Self {
        let seeded = seed.map(|seed| {
            let ds4_engine::Sampling { temperature, top_p, min_p, top_k, .. } = task.sampling;
            let think = if task.prompt.thinking { "think" } else { "none" };
            let numbers = [temperature, top_p, min_p].map(|x| x.to_string());
            let (seed, max_tokens, top_k) = (seed.to_string(), task.max_tokens.to_string(), top_k.to_string());
            let [temperature, top_p, min_p] = numbers.each_ref().map(String::as_str);
            let fields = ["ds4-tool-id-v1", style.api, &seed, model, &task.prompt.text, &max_tokens, &top_k];
            let fields = [&fields[..], &[temperature, top_p, min_p, think]].concat();
            fields.iter().flat_map(|field| field.bytes().chain([FIELD])).collect()
        });
        Self { prefix: style.call, seeded, index: 0 }
    }

    /// The id of the next call, which is of tool `name`.
    pub(crate) fn next(&mut self, name: &str) -> String {
        let index = self.index;
        self.index += 1;
        let Some(seeded) = &self.seeded else {
            return format!("{}{:016x}{:016x}", self.prefix, random(), random());
        };
        // A retry would be another attempt; there is only the first.
        let place = format!("{index}\u{0}0\u{0}{name}");
        let place = place.bytes().map(|byte| if byte == 0 { FIELD } else { byte });
        let (mut fnv, mut mix) = (1_469_598_103_934_665_603_u64, 0x8422_2325_cbf2_9ce4_u64);
        for byte in seeded.iter().copied().chain(place).map(u64::from) {
            fnv = (fnv ^ byte).wrapping_mul(1_099_511_628_211);
            let more = byte.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(mix << 6).wrapping_add(mix >> 2);
            mix ^= more;
        }
        format!("{}{fnv:016x}{mix:016x}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::tests::task;

    const STYLE: Style = Style { api: "openai", answer: "chatcmpl-", call: "call_" };

    fn ids(seed: Option<u64>, prompt: &str, names: [&str; 2]) -> [String; 2] {
        let mut ids = CallIds::new(&STYLE, seed, "m", &task(prompt));
        names.map(|name| ids.next(name))
    }

    #[test]
    fn a_seed_gives_the_same_ids_and_no_seed_never() {
        // H111
        let [first, second] = ids(Some(7), "p", ["f", "f"]);
        assert_eq!(ids(Some(7), "p", ["f", "f"]), [first.clone(), second.clone()]);
        assert_ne!(first, second);
        for other in [ids(Some(8), "p", ["f", "g"]), ids(Some(7), "q", ["f", "g"]), ids(Some(7), "p", ["g", "g"])] {
            assert!(other[0] != first && other[1] != second);
        }
        let [random, other] = ids(None, "p", ["f", "f"]);
        assert!(random != other && !ids(None, "p", ["f", "f"]).contains(&random));
        for id in [first, random] {
            let hex = id.strip_prefix("call_").unwrap();
            assert!(hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        }
    }
}
