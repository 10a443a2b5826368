//! What a crash can leave of the steps done to a disk.

use super::{crash::Random, disk::Step};

/// How a crash left the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// Every step reached it.
    Clean,
    /// Every step but a part of the last one.
    Torn,
    /// Nothing since the last sync.
    Unsynced,
    /// Some of the steps since the last sync, in their order.
    Reordered,
}

/// The disk after a crash.
pub(super) struct Image {
    pub(super) mode: Mode,
    /// So many steps were done when it crashed.
    pub(super) after: usize,
    pub(super) bytes: Vec<u8>,
}

/// Walks through the steps done to a disk, crash by crash.
pub(super) struct Crashes<'a> {
    steps: &'a [Step],
    done: usize,
    synced: Vec<u8>,
    /// The steps since the last sync start here.
    pending: usize,
    /// After so many steps something was acknowledged, in order.
    acknowledged: &'a [usize],
    variants: Variants,
    random: Random,
}

/// How many of the disks that a crash can leave are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variants {
    /// At each step every border of a torn write, every single step left out, and four random
    /// subsets.
    All,
    /// At each step two torn writes, one step left out, and one random subset.
    Few,
}

impl Variants {
    /// So many of these, chosen at random unless it is all.
    fn of<T>(self, mut all: Vec<T>, few: usize, random: &mut Random) -> Vec<T> {
        while self == Variants::Few && all.len() > few {
            all.swap_remove(random.below(all.len()));
        }
        all
    }
}

impl<'a> Crashes<'a> {
    /// Of a disk that held `bytes` before the steps.
    pub(super) fn new(
        bytes: Vec<u8>,
        steps: &'a [Step],
        acknowledged: &'a [usize],
        variants: Variants,
    ) -> Self {
        Self {
            steps,
            done: 0,
            synced: bytes,
            pending: 0,
            acknowledged,
            variants,
            random: Random::new(1),
        }
    }

    fn image(&self, mode: Mode, steps: impl IntoIterator<Item = &'a Step>) -> Image {
        let mut bytes = self.synced.clone();
        for step in steps {
            step.apply(&mut bytes);
        }
        Image {
            mode,
            after: self.done,
            bytes,
        }
    }

    /// What a crash right after one more step can leave that no crash before it could; `None`
    /// after the last step.
    pub(super) fn next_images(&mut self) -> Option<Vec<Image>> {
        let steps = self.steps;
        let step = steps.get(self.done)?;
        let before = &steps[self.pending..self.done];
        self.done += 1;
        if matches!(step, Step::Sync) {
            for step in before {
                step.apply(&mut self.synced);
            }
            self.pending = self.done;
            return Some(vec![self.image(Mode::Unsynced, [])]);
        }
        let mut images = vec![self.image(Mode::Clean, before.iter().chain([step]))];
        for torn in self.variants.of(step.torn(), 2, &mut self.random) {
            let mut image = self.image(Mode::Clean, before);
            image.mode = Mode::Torn;
            torn.apply(&mut image.bytes);
            images.push(image);
        }
        if !before.is_empty() {
            images.push(self.image(Mode::Reordered, [step]));
        }
        let left_out = (0..before.len()).collect();
        for left_out in self.variants.of(left_out, 1, &mut self.random) {
            let kept = before.iter().enumerate();
            let kept = kept.filter(|(number, _)| *number != left_out);
            let kept = kept.map(|(_, step)| step).chain([step]);
            images.push(self.image(Mode::Reordered, kept));
        }
        let subsets = if self.variants == Variants::All { 4 } else { 1 };
        for _ in 0..subsets {
            images.push(self.random_subset(before, step));
        }
        if self.acknowledged.contains(&self.done) {
            images.push(self.image(Mode::Unsynced, []));
        }
        Some(images)
    }

    /// What a crash after the last step can leave: nothing since the last sync, and some random
    /// part of it.
    pub(super) fn last_images(&mut self) -> Vec<Image> {
        while let Some(step) = self.steps.get(self.done) {
            self.done += 1;
            match step {
                Step::Sync => {
                    for step in &self.steps[self.pending..self.done] {
                        step.apply(&mut self.synced);
                    }
                    self.pending = self.done;
                }
                Step::Forgotten => self.pending = self.done,
                Step::Write { .. } | Step::SetLength(_) => {}
            }
        }
        let mut images = vec![self.image(Mode::Unsynced, [])];
        if let Some((last, before)) = self.steps[self.pending..].split_last() {
            images.push(self.random_subset(before, last));
        }
        images
    }

    /// A random half of the steps with the last of them, some of them torn.
    fn random_subset(&mut self, before: &'a [Step], last: &'a Step) -> Image {
        let mut image = self.image(Mode::Reordered, []);
        for step in before.iter().chain([last]) {
            match self.random.below(4) {
                0 | 1 => step.apply(&mut image.bytes),
                2 => {
                    let torn = step.torn();
                    if !torn.is_empty() {
                        torn[self.random.below(torn.len())].apply(&mut image.bytes);
                    }
                }
                _ => {}
            }
        }
        image
    }
}
