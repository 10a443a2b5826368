//! Vectors to store and to search for.

/// A pseudo-random sequence (xorshift64*), the same on every run.
pub(crate) struct Sequence(u64);

impl Sequence {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from −1 to 1.
    pub(crate) fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }
}

/// A vector near one of 1,000 centres, as those of texts are: without any structure no index
/// would find neighbours.
pub(crate) fn vector(number: u64, dimension: usize) -> Vec<f32> {
    let mut centre = Sequence::new(number % 1_000 + 1_000_000_007);
    let mut own = Sequence::new(number + 1);
    (0..dimension)
        .map(|_| centre.number() + own.number())
        .collect()
}
