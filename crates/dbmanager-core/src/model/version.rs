//! The version of a document: one 64-bit number per write.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version: milliseconds since the Unix epoch in the upper 48 bits, a counter in the lower 16.
///
/// Versions are allocated by the journal, each above every version that journal ever issued, so
/// they are unique per journal and totally ordered, whatever the clock does. There is no order
/// between documents. The value fits a signed 64-bit integer until the year 6429.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// Below every version that is ever issued.
    pub const ZERO: Version = Version(0);
    /// The highest version that can be issued (the highest signed 64-bit integer).
    pub const MAX: Version = Version(i64::MAX as u64);

    /// The version with this 64-bit value.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The 64-bit value, for stores that compare 64-bit integers exactly.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The value as a signed integer, for stores without unsigned ones.
    ///
    /// A value above [`Version::MAX`] (never issued) is clamped to it.
    pub const fn as_i64(self) -> i64 {
        if self.0 > Self::MAX.0 {
            i64::MAX
        } else {
            self.0 as i64
        }
    }

    /// The version that a store kept as a signed integer; a negative one reads as zero.
    pub const fn from_i64(value: i64) -> Self {
        Self(if value < 0 { 0 } else { value as u64 })
    }

    /// The version with this time and counter.
    pub const fn from_parts(milliseconds: u64, counter: u16) -> Self {
        Self((milliseconds << 16) | counter as u64)
    }

    /// Milliseconds since the Unix epoch at which the version was issued, unless the clock went
    /// back: then the journal goes on counting from its mark.
    pub const fn milliseconds(self) -> u64 {
        self.0 >> 16
    }

    /// The counter within the millisecond.
    pub const fn counter(self) -> u16 {
        self.0 as u16
    }

    /// The version a journal issues after `self` when the clock shows `now_milliseconds`: the
    /// start of that millisecond, or the next number if that would not be above `self`. A full
    /// counter carries into the milliseconds.
    pub const fn next(self, now_milliseconds: u64) -> Self {
        let by_clock = now_milliseconds << 16;
        if by_clock > self.0 {
            Self(by_clock)
        } else {
            Self(self.0 + 1)
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.milliseconds(), self.counter())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_counter_carries_into_the_milliseconds() {
        let full = Version::from_parts(1_000, u16::MAX);
        assert_eq!(full.next(1_000), Version::from_parts(1_001, 0));
    }

    #[test]
    fn a_clock_that_goes_back_never_lowers_a_version() {
        let mark = Version::from_parts(5_000, 7);
        assert_eq!(mark.next(1), Version::from_parts(5_000, 8));
        assert_eq!(mark.next(6_000), Version::from_parts(6_000, 0));
    }

    #[test]
    fn a_clock_that_stands_still_never_issues_a_version_twice() {
        let mark = Version::from_parts(5_000, 0);
        assert_eq!(mark.next(5_000), Version::from_parts(5_000, 1));
        assert_eq!(Version::ZERO.next(0), Version::from_u64(1));
    }

    #[test]
    fn the_parts_are_48_and_16_bits_of_one_number() {
        let version = Version::from_parts(3, 5);
        assert_eq!(version.as_u64(), 3 * 65_536 + 5);
        assert_eq!(version, Version::from_u64(196_613));
        assert_eq!((version.milliseconds(), version.counter()), (3, 5));
        assert_eq!(version.to_string(), "3.5");
        assert_eq!(format!("{version:?}"), "Version(3.5)");
    }

    #[test]
    fn a_signed_integer_holds_every_version_that_is_issued() {
        for value in [0, 1, 2, 196_613, i64::MAX] {
            assert_eq!(Version::from_i64(value).as_i64(), value);
            assert_eq!(Version::from_i64(value).as_u64(), value as u64);
        }
        assert_eq!(Version::from_i64(-1), Version::ZERO);
        assert_eq!(Version::from_u64(u64::MAX).as_i64(), i64::MAX);
    }
}
