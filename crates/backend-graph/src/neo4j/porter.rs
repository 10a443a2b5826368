//! Porter's stemmer for English (M. F. Porter 1980, "An algorithm for suffix stripping").

/// The longest word that is looked at: longer ones are no English words.
const MOST_LETTERS: usize = 64;

/// The stem of a lower-case word; words of one or two letters and words with anything but ASCII
/// letters stay as they are.
pub(super) fn stem(word: &str) -> String {
    let fits = (3..=MOST_LETTERS).contains(&word.len());
    if !fits || !word.bytes().all(|b| b.is_ascii_lowercase()) {
        return word.to_owned();
    }
    let mut word = Word(word.to_owned());
    word.step_1a();
    word.step_1b();
    word.step_1c();
    word.step_2();
    word.step_3();
    word.step_4();
    word.step_5();
    word.0
}

/// A suffix and what takes its place.
type Rule = (&'static str, &'static str);

const STEP_2: &[Rule] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("abli", "able"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
];

const STEP_3: &[Rule] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

/// Longer suffixes stand before those that they end with.
const STEP_4: &[&str] = &[
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
];

struct Word(String);

impl Word {
    fn without(&self, suffix: &str) -> Option<&str> {
        self.0.strip_suffix(suffix)
    }

    fn cut_to(&mut self, length: usize, ending: &str) {
        self.0.truncate(length);
        self.0.push_str(ending);
    }

    fn step_1a(&mut self) {
        let ends = |suffix| self.0.ends_with(suffix);
        let cut = if ends("sses") || ends("ies") {
            2
        } else if ends("s") && !ends("ss") {
            1
        } else {
            0
        };
        self.cut_to(self.0.len() - cut, "");
    }

    fn step_1b(&mut self) {
        if let Some(stem) = self.without("eed") {
            if measure(stem) > 0 {
                self.cut_to(self.0.len() - 1, "");
            }
            return;
        }
        let stem = self.without("ed").or_else(|| self.without("ing"));
        let Some(length) = stem.filter(|stem| has_vowel(stem)).map(str::len) else {
            return;
        };
        self.cut_to(length, "");
        let word = &*self.0;
        let doubled = ends_in_double_consonant(word) && !word.ends_with(['l', 's', 'z']);
        if ["at", "bl", "iz"].iter().any(|end| word.ends_with(end)) {
            self.0.push('e');
        } else if doubled {
            self.0.pop();
        } else if measure(word) == 1 && ends_short(word) {
            self.0.push('e');
        }
    }

    fn step_1c(&mut self) {
        if self.without("y").is_some_and(has_vowel) {
            self.cut_to(self.0.len() - 1, "i");
        }
    }

    /// Applies the rule of the longest suffix that the word has, if there is enough before it.
    fn replace_longest(&mut self, rules: &[Rule]) {
        let longest = rules
            .iter()
            .filter_map(|(suffix, ending)| Some((self.without(suffix)?, ending)))
            .min_by_key(|(stem, _)| stem.len());
        if let Some((stem, ending)) = longest
            && measure(stem) > 0
        {
            self.cut_to(stem.len(), ending);
        }
    }

    fn step_2(&mut self) {
        self.replace_longest(STEP_2);
    }

    fn step_3(&mut self) {
        self.replace_longest(STEP_3);
    }

    fn step_4(&mut self) {
        let longest = STEP_4
            .iter()
            .filter_map(|suffix| Some((self.without(suffix)?, *suffix)))
            .min_by_key(|(stem, _)| stem.len());
        if let Some((stem, suffix)) = longest
            && measure(stem) > 1
            && (suffix != "ion" || stem.ends_with(['s', 't']))
        {
            self.cut_to(stem.len(), "");
        }
    }

    fn step_5(&mut self) {
        if let Some(stem) = self.without("e")
            && (measure(stem) > 1 || measure(stem) == 1 && !ends_short(stem))
        {
            self.cut_to(self.0.len() - 1, "");
        }
        if self.0.ends_with("ll") && measure(&self.0) > 1 {
            self.0.pop();
        }
    }
}

/// Whether each letter is a consonant: a `y` is one at the start and behind a vowel.
fn consonants(word: &str) -> impl Iterator<Item = bool> + '_ {
    let mut before = false;
    word.bytes().enumerate().map(move |(at, letter)| {
        before = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => at == 0 || !before,
            _ => true,
        };
        before
    })
}

/// How often a consonant follows a vowel: Porter's *m*.
fn measure(word: &str) -> usize {
    let mut before = true;
    consonants(word)
        .filter(|consonant| {
            let counts = *consonant && !before;
            before = *consonant;
            counts
        })
        .count()
}

fn has_vowel(word: &str) -> bool {
    consonants(word).any(|consonant| !consonant)
}

fn ends_in_double_consonant(word: &str) -> bool {
    let bytes = word.as_bytes();
    let last_two = bytes.len().checked_sub(2).map(|start| &bytes[start..]);
    last_two.is_some_and(|two| two[0] == two[1]) && consonants(word).last() == Some(true)
}

/// Consonant, vowel, consonant at the end, the last none of `w`, `x`, `y`.
fn ends_short(word: &str) -> bool {
    let kinds: Vec<bool> = consonants(word).collect();
    kinds.ends_with(&[true, false, true]) && !word.ends_with(['w', 'x', 'y'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the paper, each through all steps.
    #[test]
    fn the_examples_of_the_paper_have_their_stems() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("ties", "ti"),
            ("caress", "caress"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("bled", "bled"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflat"),
            ("troubled", "troubl"),
            ("sized", "size"),
            ("hopping", "hop"),
            ("tanned", "tan"),
            ("falling", "fall"),
            ("hissing", "hiss"),
            ("fizzed", "fizz"),
            ("failing", "fail"),
            ("filing", "file"),
            ("happy", "happi"),
            ("sky", "sky"),
            ("relational", "relat"),
            ("conditional", "condit"),
            ("rational", "ration"),
            ("digitizer", "digit"),
            ("operator", "oper"),
            ("feudalism", "feudal"),
            ("decisiveness", "decis"),
            ("hopefulness", "hope"),
            ("sensibiliti", "sensibl"),
            ("triplicate", "triplic"),
            ("formative", "form"),
            ("formalize", "formal"),
            ("electrical", "electr"),
            ("goodness", "good"),
            ("revival", "reviv"),
            ("allowance", "allow"),
            ("inference", "infer"),
            ("airliner", "airlin"),
            ("adjustable", "adjust"),
            ("replacement", "replac"),
            ("adjustment", "adjust"),
            ("dependent", "depend"),
            ("adoption", "adopt"),
            ("homologou", "homolog"),
            ("effective", "effect"),
            ("bowdlerize", "bowdler"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("cease", "ceas"),
            ("controll", "control"),
            ("roll", "roll"),
            ("generalizations", "gener"),
            ("oscillators", "oscil"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }

    #[test]
    fn what_is_no_english_word_stays() {
        let long = "s".repeat(MOST_LETTERS + 1);
        for word in ["", "is", "as", "über", "x86s", &long] {
            assert_eq!(stem(word), word);
        }
    }
}
