//! Porter's stemmer for English (M. F. Porter, "An algorithm for suffix stripping", Program 14(3),
//! 1980), with the two departures of its author's own implementation (`bli` and `logi` in step 2).

/// Words outside these lengths are left as they are: there is nothing to strip, or it is no word.
const LENGTHS: std::ops::RangeInclusive<usize> = 3..=64;

/// A suffix and what it becomes.
type Rule = (&'static str, &'static str);

const STEP_2: &[Rule] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
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
    ("logi", "log"),
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

const STEP_4: &[Rule] = &[
    ("al", ""),
    ("ance", ""),
    ("ence", ""),
    ("er", ""),
    ("ic", ""),
    ("able", ""),
    ("ible", ""),
    ("ant", ""),
    ("ement", ""),
    ("ment", ""),
    ("ent", ""),
    ("ion", ""),
    ("ou", ""),
    ("ism", ""),
    ("ate", ""),
    ("iti", ""),
    ("ous", ""),
    ("ive", ""),
    ("ize", ""),
];

/// The stem of a word in lower case. Words with anything but ASCII letters and digits are
/// returned as they are.
pub fn stem(word: String) -> String {
    if !LENGTHS.contains(&word.len()) || !word.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return word;
    }
    let mut word = Word(word);
    word.plurals();
    word.past_and_gerund();
    if word.0.ends_with('y') && has_vowel(&word.0[..word.0.len() - 1]) {
        word.replace(1, "i");
    }
    word.longest(STEP_2, |stem, _| measure(stem) > 0);
    word.longest(STEP_3, |stem, _| measure(stem) > 0);
    word.longest(STEP_4, |stem, suffix| {
        measure(stem) > 1 && (suffix != "ion" || stem.ends_with(['s', 't']))
    });
    word.final_e();
    word.0
}

/// A word in ASCII.
struct Word(String);

impl Word {
    fn replace(&mut self, suffix: usize, with: &str) {
        self.0.truncate(self.0.len() - suffix);
        self.0.push_str(with);
    }

    /// Applies the rule of the longest suffix that the word has, if its condition on the stem
    /// holds; no shorter one is tried then.
    fn longest(&mut self, rules: &[Rule], condition: impl Fn(&str, &str) -> bool) {
        let found = rules
            .iter()
            .filter_map(|(suffix, with)| Some((self.0.strip_suffix(suffix)?, suffix, with)))
            .max_by_key(|(_, suffix, _)| suffix.len());
        if let Some((stem, suffix, with)) = found
            && condition(stem, suffix)
        {
            self.replace(suffix.len(), with);
        }
    }

    fn plurals(&mut self) {
        let rules = [("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")];
        self.longest(&rules, |_, _| true);
    }

    fn past_and_gerund(&mut self) {
        if let Some(stem) = self.0.strip_suffix("eed") {
            if measure(stem) > 0 {
                self.replace(1, "");
            }
            return;
        }
        let suffix = ["ed", "ing"]
            .into_iter()
            .find(|suffix| self.0.strip_suffix(suffix).is_some_and(has_vowel));
        let Some(suffix) = suffix else { return };
        self.replace(suffix.len(), "");
        if ["at", "bl", "iz"].iter().any(|end| self.0.ends_with(end)) {
            self.0.push('e');
        } else if ends_with_double_consonant(&self.0) {
            if !self.0.ends_with(['l', 's', 'z']) {
                self.replace(1, "");
            }
        } else if measure(&self.0) == 1 && ends_with_short_syllable(&self.0) {
            self.0.push('e');
        }
    }

    fn final_e(&mut self) {
        if let Some(stem) = self.0.strip_suffix('e') {
            let measure = measure(stem);
            if measure > 1 || (measure == 1 && !ends_with_short_syllable(stem)) {
                self.replace(1, "");
            }
        }
        if self.0.ends_with("ll") && measure(&self.0) > 1 {
            self.replace(1, "");
        }
    }
}

/// For each letter whether it is a vowel; `y` is one after a consonant.
fn vowels(word: &str) -> impl Iterator<Item = bool> {
    word.bytes().scan(true, |after_vowel, letter| {
        let vowel = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => true,
            b'y' => !*after_vowel,
            _ => false,
        };
        *after_vowel = vowel;
        Some(vowel)
    })
}

fn has_vowel(word: &str) -> bool {
    vowels(word).any(|vowel| vowel)
}

/// How often consonants follow vowels.
fn measure(word: &str) -> usize {
    let mut before = false;
    vowels(word)
        .filter(|vowel| {
            let counts = before && !vowel;
            before = *vowel;
            counts
        })
        .count()
}

fn ends_with_double_consonant(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= 2
        && bytes[bytes.len() - 1] == bytes[bytes.len() - 2]
        && vowels(word).last() == Some(false)
}

/// Consonant, vowel, consonant, the last of them none of `w`, `x` and `y`.
fn ends_with_short_syllable(word: &str) -> bool {
    let kinds: Vec<bool> = vowels(word).collect();
    kinds.ends_with(&[false, true, false]) && !word.ends_with(['w', 'x', 'y'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the paper, through all steps.
    #[test]
    fn words_are_stripped_as_in_the_paper() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("ties", "ti"),
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
            ("falling", "fall"),
            ("hissing", "hiss"),
            ("failing", "fail"),
            ("filing", "file"),
            ("happy", "happi"),
            ("sky", "sky"),
            ("relational", "relat"),
            ("conditional", "condit"),
            ("digitizer", "digit"),
            ("radically", "radic"),
            ("vietnamization", "vietnam"),
            ("operator", "oper"),
            ("hopefulness", "hope"),
            ("formality", "formal"),
            ("triplicate", "triplic"),
            ("electrical", "electr"),
            ("goodness", "good"),
            ("allowance", "allow"),
            ("replacement", "replac"),
            ("adoption", "adopt"),
            ("communism", "commun"),
            ("effective", "effect"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("cease", "ceas"),
            ("controlling", "control"),
            ("roll", "roll"),
            ("generalizations", "gener"),
            ("oscillators", "oscil"),
            ("caress", "caress"),
            ("tanned", "tan"),
            ("fizzed", "fizz"),
            ("rational", "ration"),
            ("feudalism", "feudal"),
            ("decisiveness", "decis"),
            ("sensibiliti", "sensibl"),
            ("formative", "form"),
            ("formalize", "formal"),
            ("revival", "reviv"),
            ("inference", "infer"),
            ("airliner", "airlin"),
            ("adjustable", "adjust"),
            ("adjustment", "adjust"),
            ("dependent", "depend"),
            ("homologou", "homolog"),
            ("bowdlerize", "bowdler"),
            ("controll", "control"),
        ] {
            assert_eq!(stem(word.to_owned()), expected, "{word}");
        }
    }

    #[test]
    fn what_is_no_english_word_stays_as_it_is() {
        let long = "a".repeat(65) + "s";
        for word in [
            "",
            "is",
            "\u{43c}\u{438}\u{440}\u{44b}",
            "stra\u{df}es",
            long.as_str(),
        ] {
            assert_eq!(stem(word.to_owned()), word);
        }
    }
}
