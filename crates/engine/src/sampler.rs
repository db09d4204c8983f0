//! Draws the next token from logits.

use std::collections::{HashMap, HashSet};

use ds4_cpu::kernels::sampling::weights;

use crate::Rule;

/// Most candidates that `top_k` may keep.
const TOP_K_CAP: usize = 1024;

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// At most 0: the largest logit, the lowest id among equals.
    pub temperature: f32,
    /// Keep the most probable tokens up to this total; at least 1, or not above 0: all.
    pub top_p: f32,
    /// Keep tokens at least this probable relative to the most probable one.
    pub min_p: f32,
    /// Keep this many tokens, at most 1024; 0: all.
    pub top_k: usize,
    /// Start of the random numbers; 0 stands for a fixed constant.
    pub seed: u64,
    /// What tokens lose that are there already.
    pub penalties: Penalties,
}

/// What tokens lose that are there already, before anything else is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalties {
    /// Taken once from the logit of a token that the answer has.
    pub presence: f32,
    /// Taken for each time that the answer has it.
    pub frequency: f32,
    /// Logits of tokens that prompt or answer have are divided by this if they are positive, else multiplied (CTRL, Keskar
    /// et al. 2019); above 0, and 1 changes nothing.
    pub repetition: f32,
}

impl Penalties {
    /// Nothing.
    pub const NONE: Self = Self { presence: 0.0, frequency: 0.0, repetition: 1.0 };
}

impl Sampling {
    /// Always the largest logit.
    pub const GREEDY: Self =
        Self { temperature: 0.0, top_p: 1.0, min_p: 0.0, top_k: 0, seed: 0, penalties: Penalties::NONE };
}

/// Draws tokens, one random number each.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    bias: Vec<(u32, f32)>,
    random: Random,
    /// How often the answer has each token.
    counts: HashMap<u32, u32>,
    /// The tokens of prompt and answer, where that matters.
    seen: HashSet<u32>,
    /// Logits after bias, penalties and rule.
    shaped: Vec<f32>,
    /// Weight of every token.
    weights: Vec<f32>,
    /// (weight, id) of what may be drawn.
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// A sampler at the start of its random numbers, after a prompt; `bias` is added to the logits of these tokens.
    pub fn new(sampling: Sampling, bias: Vec<(u32, f32)>, prompt: &[u32]) -> Self {
        let repeats = sampling.penalties.repetition != 1.0;
        Self {
            sampling,
            bias,
            random: Random::new(sampling.seed),
            counts: HashMap::new(),
            seen: if repeats { prompt.iter().copied().collect() } else { HashSet::new() },
            shaped: Vec::new(),
            weights: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// The next token, which follows `rule`; none when no logit that may be drawn is finite.
    pub fn draw(&mut self, logits: &[f32], rule: Rule<'_>) -> Option<u32> {
        let penalised = self.sampling.penalties != Penalties::NONE;
        let id = if penalised || !self.bias.is_empty() || rule.allowed.is_some() {
            let mut shaped = std::mem::take(&mut self.shaped);
            self.shape(logits, rule, &mut shaped);
            let id = self.pick_one(&shaped, rule.greedy);
            self.shaped = shaped;
            id?
        } else {
            self.pick_one(logits, rule.greedy)?
        };
        if penalised {
            *self.counts.entry(id).or_default() += 1;
            if self.sampling.penalties.repetition != 1.0 {
                self.seen.insert(id);
            }
        }
        Some(id)
    }

    /// Logits after penalties, bias and rule; what may not be drawn is minus infinity.
    fn shape(&self, logits: &[f32], rule: Rule<'_>, out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(logits);
        let Penalties { presence, frequency, repetition } = self.sampling.penalties;
        for id in &self.seen {
            if let Some(logit) = out.get_mut(*id as usize) {
                *logit = if *logit > 0.0 { *logit / repetition } else { *logit * repetition };
            }
        }
        for (id, count) in &self.counts {
            out[*id as usize] -= presence + frequency * *count as f32;
        }
        for (id, bias) in &self.bias {
            if let Some(logit) = out.get_mut(*id as usize) {
                *logit += bias;
            }
        }
        if rule.allowed.is_some() {
            for (id, logit) in (0..).zip(out.iter_mut()) {
                if !rule.allows(id) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }

    fn pick_one(&mut self, logits: &[f32], greedy: bool) -> Option<u32> {
        let s = self.sampling;
        let (best, max) = largest(logits)?;
        if s.temperature <= 0.0 || greedy {
            return Some(best);
        }
        let u = self.random.unit();
        self.weights.resize(logits.len(), 0.0);
        weights(logits, max, s.temperature, &mut self.weights);
        self.candidates.clear();
        self.candidates.reserve(logits.len());
        let drawable = self.weights.iter().zip(logits).zip(0..).filter(|((_, l), _)| l.is_finite());
        self.candidates.extend(drawable.map(|((&weight, _), id)| (weight, id)));
        let top_p = if s.top_p > 0.0 && s.top_p < 1.0 { s.top_p } else { 1.0 };
        if s.top_k == 0 && top_p == 1.0 {
            self.candidates.retain(|c| c.0 >= s.min_p);
        } else {
            self.keep_most_probable(top_p);
        }
        Some(pick(&self.candidates, u))
    }

    /// Sorts by probability and cuts by `top_k`, then by `min_p` and `top_p` relative to the sum of what `top_k` left.
    fn keep_most_probable(&mut self, top_p: f32) {
        let s = self.sampling;
        let candidates = &mut self.candidates;
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if s.top_k > 0 {
            candidates.truncate(s.top_k.min(TOP_K_CAP));
        }
        let total: f64 = candidates.iter().map(|c| c.0 as f64).sum();
        let least = candidates[0].0 * s.min_p;
        let mut cumulative = 0.0;
        let mut kept = 0;
        for (weight, _) in &*candidates {
            if *weight < least {
                break;
            }
            kept += 1;
            cumulative += *weight as f64;
            if cumulative >= top_p as f64 * total {
                break;
            }
        }
        candidates.truncate(kept.max(1));
    }
}

/// The largest finite logit and the lowest id that has it.
fn largest(logits: &[f32]) -> Option<(u32, f32)> {
    let finite = logits.iter().zip(0u32..).filter(|(l, _)| l.is_finite());
    finite.fold(None, |best, (&l, id)| match best {
        Some((_, max)) if l <= max => best,
        _ => Some((id, l)),
    })
}

/// Walks the candidates until a share `u` of their weight is behind.
fn pick(candidates: &[(f32, u32)], u: f64) -> u32 {
    let mut rest = u * candidates.iter().map(|c| c.0 as f64).sum::<f64>();
    for (weight, id) in candidates {
        rest -= *weight as f64;
        if rest <= 0.0 {
            return *id;
        }
    }
    candidates.last().expect("the most probable token is always kept").1
}

/// xorshift64*
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(if seed == 0 { 0x9E37_79B9_7F4A_7C15 } else { seed })
    }

    /// 24 bits in [0, 1).
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let out = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        (out >> 40) as f64 / (1u64 << 24) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARM: Sampling = Sampling { temperature: 1.0, seed: 7, ..Sampling::GREEDY };

    /// A sampler without a prompt.
    fn sampler(sampling: Sampling) -> Sampler {
        Sampler::new(sampling, Vec::new(), &[])
    }

    /// How often each of the first tokens comes in 20,000 draws.
    fn shares(sampling: Sampling, logits: &[f32]) -> Vec<f64> {
        let mut sampler = sampler(sampling);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.draw(logits, Rule::default()).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_shares(got: &[f64], want: &[f64]) {
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 0.015), "{got:?} instead of {want:?}");
    }

    #[test]
    fn no_temperature_takes_the_lowest_id_of_the_largest_logits() {
        let mut sampler = sampler(Sampling::GREEDY);
        assert_eq!(sampler.draw(&[1.0, f32::NAN, 3.0, 3.0, f32::INFINITY], Rule::default()), Some(2));
        assert_eq!(sampler.draw(&[f32::NAN, f32::NEG_INFINITY], Rule::default()), None);
    }

    #[test]
    fn shares_follow_the_softmax() {
        let logits = [0.0, 2f32.ln(), f32::NAN, 5f32.ln()];
        assert_shares(&shares(WARM, &logits), &[0.125, 0.25, 0.0, 0.625]);
        let cold = Sampling { temperature: 0.5, ..WARM };
        assert_shares(&shares(cold, &logits), &[1.0 / 30.0, 4.0 / 30.0, 0.0, 25.0 / 30.0]);
    }

    #[test]
    fn min_p_is_relative_to_the_most_probable_token() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        assert_shares(&shares(Sampling { min_p: 0.3, ..WARM }, &logits), &[0.0, 2.0 / 7.0, 5.0 / 7.0]);
    }

    #[test]
    fn top_p_keeps_the_token_that_reaches_it() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()]; // 1/8, 2/8, 5/8
        assert_shares(&shares(Sampling { top_p: 0.5, ..WARM }, &logits), &[0.0, 0.0, 1.0]);
        assert_shares(&shares(Sampling { top_p: 0.63, ..WARM }, &logits), &[0.0, 2.0 / 7.0, 5.0 / 7.0]);
        assert_shares(&shares(Sampling { top_p: 0.0, ..WARM }, &logits), &[0.125, 0.25, 0.625]);
    }

    #[test]
    fn top_k_comes_before_top_p() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        assert_shares(&shares(Sampling { top_k: 2, ..WARM }, &logits), &[0.0, 2.0 / 7.0, 5.0 / 7.0]);
        let both = Sampling { top_k: 2, top_p: 0.71, ..WARM }; // 5/7 = 0.714
        assert_shares(&shares(both, &logits), &[0.0, 0.0, 1.0]);
        let equal = Sampling { top_k: 1, ..WARM };
        assert_shares(&shares(equal, &[1.0, 1.0]), &[1.0, 0.0]);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.37).sin()).collect();
        let draw = |seed| {
            let mut sampler = sampler(Sampling { seed, ..WARM });
            (0..40).map(|_| sampler.draw(&logits, Rule::default()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(42), draw(42));
        assert_ne!(draw(42), draw(43));
    }

    #[test]
    fn only_what_the_rule_allows_is_drawn() {
        let logits = [1.0, 4.0, 3.0, 2.0];
        let allowed = [0b1001];
        let rule = Rule { allowed: Some(&allowed), greedy: false };
        let mut warm = sampler(WARM);
        let drawn: HashSet<_> = (0..200).filter_map(|_| warm.draw(&logits, rule)).collect();
        assert_eq!(drawn, HashSet::from([0, 3]));
        assert_eq!(warm.draw(&logits, Rule { greedy: true, ..rule }), Some(3));
        assert_eq!(warm.draw(&logits, Rule { allowed: Some(&[]), greedy: true }), None, "nothing is allowed");
        assert!(!Rule { allowed: Some(&allowed), greedy: true }.allows(32), "beyond the words is not allowed");
    }

    #[test]
    fn a_bias_is_added_to_the_logit() {
        let mut sampler = Sampler::new(Sampling::GREEDY, vec![(0, 3.5), (2, -100.0), (9, 1.0)], &[]);
        assert_eq!(sampler.draw(&[1.0, 4.0, 5.0], Rule::default()), Some(0));
    }

    #[test]
    fn what_is_there_already_loses() {
        let with = |penalties| Sampler::new(Sampling { penalties, ..Sampling::GREEDY }, Vec::new(), &[3]);
        let draws = |mut sampler: Sampler, n| {
            (0..n).map(|_| sampler.draw(&[2.0, 1.5, 1.0, 2.1, -1.0], Rule::default()).unwrap()).collect::<Vec<_>>()
        };
        // Presence once, frequency each time; both leave the prompt alone.
        assert_eq!(draws(with(Penalties { presence: 0.3, ..Penalties::NONE }), 4), [3, 0, 3, 3]);
        assert_eq!(draws(with(Penalties { frequency: 0.3, ..Penalties::NONE }), 4), [3, 0, 3, 0]);
        // 2.1 / 2 is less than 2 from the beginning; a negative logit becomes more so.
        assert_eq!(draws(with(Penalties { repetition: 2.0, ..Penalties::NONE }), 3), [0, 1, 3]);
    }

    #[test]
    fn random_numbers_are_xorshift64_star() {
        // First states worked out by hand from the definition.
        let mut random = Random::new(1);
        random.unit();
        assert_eq!(random.0, 0x2000001);
        assert_eq!(Random::new(0).0, 0x9E37_79B9_7F4A_7C15);
    }
}
