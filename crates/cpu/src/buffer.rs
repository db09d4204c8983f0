//! Activation buffers.

/// `[rows, width]` f32 values, of which the first `live` rows belong to the step.
pub struct Buf {
    data: Vec<f32>,
    width: usize,
    live: usize,
}

impl Buf {
    /// Memory is written at once, so that what the plan says is what the process holds; NaN shows a row that is read
    /// before it was computed.
    pub(crate) fn new(rows: usize, width: usize) -> Self {
        Self { data: vec![f32::NAN; rows * width], width, live: 0 }
    }

    /// Values of a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Live rows.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// The live rows.
    pub(crate) fn rows(&self) -> &[f32] {
        &self.data[..self.live * self.width]
    }

    /// The live rows, to change.
    pub(crate) fn rows_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.live * self.width]
    }

    /// Makes the first `live` rows the live ones, to overwrite; rows are `width` wide, at most as wide as allocated.
    pub(crate) fn start(&mut self, live: usize, width: usize) -> &mut [f32] {
        assert!(live * width <= self.data.len(), "the buffer holds {live} rows of {width}");
        (self.live, self.width) = (live, width);
        self.rows_mut()
    }

    /// One row.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.width..][..self.width]
    }
}

/// `[rows, width]` numbers; unused places of a row hold `u32::MAX`.
pub struct Picks {
    data: Vec<u32>,
    width: usize,
    live: usize,
}

impl Picks {
    pub(crate) fn new(rows: usize, width: usize) -> Self {
        Self { data: vec![u32::MAX; rows * width], width, live: 0 }
    }

    pub(crate) fn rows(&self) -> &[u32] {
        &self.data[..self.live * self.width]
    }

    pub(crate) fn start(&mut self, live: usize) -> &mut [u32] {
        self.live = live;
        &mut self.data[..live * self.width]
    }

    pub(crate) fn row(&self, row: usize) -> &[u32] {
        &self.data[row * self.width..][..self.width]
    }
}
