//! Directional steering: a direction for each layer, and how much of it is taken out of what the layer adds.
//!
//! `y = y - scale * (d . y) * d`, for each token, on the output of attention, of the experts, or both: a positive scale
//! removes what the direction stands for, a negative one amplifies it. The rows that a steered token leaves in the cache
//! are others than those of a plain one, so it has another name there ([`Names`]).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ds4_model::{Ops, Seen, Shape, Tap};

use crate::Error;

/// One direction a layer: `[layers, D]`, as a file of little-endian f32 without a header has them.
#[derive(Debug, PartialEq)]
pub struct Directions {
    width: usize,
    values: Vec<f32>,
}

impl Directions {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, has not exactly the model's size, or holds a number that is not finite.
    pub fn open(path: &Path, shape: &Shape) -> Result<Self, Error> {
        let wrong = |why: String| Error::Steering(format!("{}: {why}", path.display()));
        let (layers, width) = (shape.layers(), shape.hidden);
        let size = (layers * width * 4) as u64;
        let found = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
        if found != size {
            return Err(wrong(format!(
                "{found} bytes; directions for this model are {layers} layers of {width} f32, which are {size}"
            )));
        }
        let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
        let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Self::new(values, shape).map_err(wrong)
    }

    /// Directions from their values, `[layers, D]`.
    pub fn new(values: Vec<f32>, shape: &Shape) -> Result<Self, String> {
        let width = shape.hidden;
        if values.len() != shape.layers() * width {
            return Err(format!("{} values instead of {} x {width}", values.len(), shape.layers()));
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(i) => {
                Err(format!("the value {} of layer {} is {}, not a finite number", i % width, i / width, values[i]))
            }
            None => Ok(Self { width, values }),
        }
    }

    fn layer(&self, layer: usize) -> &[f32] {
        &self.values[layer * self.width..][..self.width]
    }
}

/// Which tokens are steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// All, the prompt's too.
    Always,
    /// Those of the answer.
    Decoding,
    /// Those of the answer that the request's guide says ([`crate::Guide::steers`]).
    Guided,
}

/// How a request is steered.
#[derive(Clone, Debug)]
pub struct Steering {
    /// The directions.
    pub directions: Arc<Directions>,
    /// Scale for the output of the experts.
    pub ffn: f32,
    /// Scale for the output of attention.
    pub attention: f32,
    /// Which tokens.
    pub when: When,
}

impl Steering {
    /// This, unless it would change nothing.
    pub fn effective(self) -> Option<Self> {
        (self.ffn != 0.0 || self.attention != 0.0).then_some(self)
    }
}

/// Where the name of a steered token differs from its id.
const SHIFT: u32 = 20;
/// The way of those that came after all numbers were given away: nothing that is steered like this is shared.
pub(crate) const PRIVATE: u32 = (1 << (32 - SHIFT)) - 1;
/// Ways to steer that can be told apart, at most: what is left above an id.
const MAX_WAYS: usize = PRIVATE as usize - 1;

/// What steered tokens are called in the cache: their ids, and above these the number of the way in which they are steered.
#[derive(Debug, Default)]
pub(crate) struct Names {
    ways: Vec<Steering>,
}

impl Names {
    /// The number of a way to steer, above 0.
    pub(crate) fn number(&mut self, steering: &Steering) -> u32 {
        let same = |way: &Steering| {
            Arc::ptr_eq(&way.directions, &steering.directions)
                && way.ffn.to_bits() == steering.ffn.to_bits()
                && way.attention.to_bits() == steering.attention.to_bits()
        };
        let known = self.ways.iter().position(same);
        let number = known.or_else(|| {
            (self.ways.len() < MAX_WAYS).then(|| {
                self.ways.push(steering.clone());
                self.ways.len() - 1
            })
        });
        number.map_or(PRIVATE, |number| number as u32 + 1)
    }
}

/// The name of a token that is steered in the way of this number; 0 is not steered.
pub(crate) fn name(token: u32, number: u32) -> u32 {
    token | number << SHIFT
}

/// Whether a name is that of a steered token.
pub(crate) fn is_steered(name: u32) -> bool {
    name >> SHIFT != 0
}

/// Rows of a step, and how they are steered.
pub(crate) type Steered = (Range<usize>, Steering);

/// Steers rows of a step.
pub(crate) struct Steer<'s>(pub(crate) &'s [Steered]);

impl<B: Ops> Tap<B> for Steer<'_> {
    fn see(&mut self, ops: &mut B, layer: usize, seen: Seen<'_, B>) {
        let (y, scale): (_, fn(&Steering) -> f32) = match seen {
            Seen::AttentionOut(y) => (y, |s| s.attention),
            Seen::FeedForwardOut(y) => (y, |s| s.ffn),
            _ => return,
        };
        for (rows, steering) in self.0 {
            if scale(steering) != 0.0 {
                ops.steer(y, rows.clone(), steering.directions.layer(layer), scale(steering));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    fn shape() -> Shape {
        Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap().weights.shape.clone()
    }

    #[test]
    fn files_of_directions_are_checked() {
        // H048
        let shape = shape();
        let size = shape.layers() * shape.hidden * 4;
        let home = tempfile::tempdir().unwrap();
        let open = |bytes: &[u8]| {
            let path = home.path().join("d.f32");
            std::fs::write(&path, bytes).unwrap();
            Directions::open(&path, &shape).map_err(|e| e.to_string().replace(&*path.to_string_lossy(), "d.f32"))
        };
        assert!(open(&vec![0; size]).is_ok());
        let error = open(&vec![0; size - 1]).unwrap_err();
        assert!(error.starts_with(&format!("d.f32: {} bytes; directions for this model are ", size - 1)), "{error}");
        let mut bytes = vec![0; size];
        bytes[(shape.hidden + 3) * 4..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(open(&bytes).unwrap_err(), "d.f32: the value 3 of layer 1 is NaN, not a finite number");
        assert!(
            Directions::open(&home.path().join("absent"), &shape)
                .unwrap_err()
                .to_string()
                .contains("absent: No such file")
        );
    }

    #[test]
    fn ways_have_names_of_their_own() {
        let shape = shape();
        let values = vec![0.0; shape.layers() * shape.hidden];
        let directions = || Arc::new(Directions::new(values.clone(), &shape).unwrap());
        let first = Steering { directions: directions(), ffn: 1.0, attention: 0.0, when: When::Always };
        let mut names = Names::default();
        assert_eq!(names.number(&first), 1);
        assert_eq!(names.number(&Steering { ffn: -1.0, ..first.clone() }), 2);
        assert_eq!(names.number(&Steering { directions: directions(), ..first.clone() }), 3);
        assert_eq!(names.number(&Steering { when: When::Decoding, ..first.clone() }), 1, "the rows are the same");
        assert_eq!((name(7, 0), is_steered(name(7, 0)), is_steered(name(7, 1))), (7, false, true));
        (4..=MAX_WAYS).for_each(|i| assert_eq!(names.number(&Steering { ffn: i as f32, ..first.clone() }), i as u32));
        assert_eq!(names.number(&Steering { ffn: 0.5, ..first.clone() }), PRIVATE);
        assert_eq!(names.number(&first), 1);
        assert!(Steering { ffn: -0.0, ..first }.effective().is_none());
    }
}
