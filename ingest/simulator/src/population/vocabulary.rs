//! The words that simulated people use.

use rand::Rng;
use rand::rngs::SmallRng;

const WORDS: &[&str] = &[
    "about",
    "after",
    "again",
    "almost",
    "amber",
    "anchor",
    "answer",
    "apple",
    "autumn",
    "bakery",
    "balcony",
    "basket",
    "before",
    "bicycle",
    "birds",
    "blue",
    "bread",
    "bridge",
    "bright",
    "butter",
    "candle",
    "canvas",
    "careful",
    "chair",
    "cinnamon",
    "city",
    "clouds",
    "coffee",
    "corner",
    "cotton",
    "county",
    "daylight",
    "distant",
    "early",
    "eleven",
    "engine",
    "evening",
    "every",
    "faded",
    "feather",
    "ferry",
    "field",
    "fifteen",
    "first",
    "flour",
    "forest",
    "forgot",
    "found",
    "garden",
    "gentle",
    "ginger",
    "glass",
    "golden",
    "granite",
    "green",
    "harbour",
    "hello",
    "hollow",
    "honest",
    "house",
    "island",
    "journey",
    "kettle",
    "kitchen",
    "ladder",
    "lantern",
    "late",
    "lemon",
    "letter",
    "listen",
    "little",
    "maple",
    "market",
    "meadow",
    "midnight",
    "minute",
    "mirror",
    "monday",
    "morning",
    "mountain",
    "museum",
    "music",
    "never",
    "north",
    "notebook",
    "nothing",
    "ocean",
    "often",
    "old",
    "orange",
    "outside",
    "paper",
    "pepper",
    "piano",
    "picture",
    "pocket",
    "quiet",
    "rain",
    "reading",
    "river",
    "rooftop",
    "saturday",
    "season",
    "second",
    "seven",
    "shadow",
    "silver",
    "simple",
    "slowly",
    "small",
    "softly",
    "somewhere",
    "spring",
    "station",
    "stone",
    "story",
    "street",
    "summer",
    "sunday",
    "table",
    "thunder",
    "ticket",
    "today",
    "together",
    "tomorrow",
    "tower",
    "train",
    "twelve",
    "under",
    "valley",
    "velvet",
    "village",
    "violet",
    "walking",
    "water",
    "weather",
    "window",
    "winter",
    "wooden",
    "yellow",
    "yesterday",
];

pub(super) const TAGS: &[&str] = &[
    "art",
    "astronomy",
    "baking",
    "birding",
    "books",
    "boardgames",
    "chess",
    "climbing",
    "coffee",
    "cooking",
    "cycling",
    "design",
    "diy",
    "film",
    "football",
    "garden",
    "hiking",
    "history",
    "jazz",
    "knitting",
    "maps",
    "music",
    "news",
    "photo",
    "poetry",
    "pottery",
    "running",
    "rust",
    "sailing",
    "science",
    "sketching",
    "swimming",
    "tea",
    "theatre",
    "trains",
    "travel",
    "typography",
    "weather",
    "woodwork",
    "writing",
];

const FIRST: &[&str] = &[
    "amber", "blue", "brave", "calm", "clever", "copper", "dusty", "early", "fuzzy", "gentle", "happy", "hidden",
    "jolly", "lucky", "mellow", "misty", "noble", "quiet", "rapid", "rusty", "silent", "silver", "sunny", "swift",
    "tiny", "wild",
];

const SECOND: &[&str] = &[
    "acorn", "badger", "beacon", "breeze", "canyon", "cedar", "comet", "falcon", "fern", "fox", "harbor", "heron",
    "lark", "maple", "meadow", "otter", "pebble", "pine", "raven", "reef", "river", "sparrow", "thistle", "tiger",
    "willow", "wren",
];

pub(super) const LANGS: &[&str] = &["en", "en", "en", "en", "de", "es", "fr", "pt", "ja", "en"];

pub(super) const REASONS: &[&str] = &["spam", "harassment", "nudity", "misinformation", "other"];

/// The public name of user `index`: the same for every seed.
pub(super) fn handle(index: u32) -> String {
    let index = index as usize;
    let first = FIRST[index % FIRST.len()];
    let second = SECOND[(index / FIRST.len()) % SECOND.len()];
    format!("{first}_{second}_{index}")
}

/// `words` words, the first with a capital, and a full stop.
pub(super) fn sentence(rng: &mut SmallRng, words: usize) -> String {
    let mut out = String::with_capacity(words * 8);
    for i in 0..words {
        if i > 0 {
            out.push(' ');
        }
        let word = WORDS[rng.random_range(0..WORDS.len())];
        if i == 0 {
            out.push(word.as_bytes()[0].to_ascii_uppercase() as char);
            out.push_str(&word[1..]);
        } else {
            out.push_str(word);
        }
    }
    out.push('.');
    out
}

/// One or two words, as typed into a search box.
pub(super) fn query(rng: &mut SmallRng) -> String {
    let first = WORDS[rng.random_range(0..WORDS.len())];
    if rng.random_bool(0.5) {
        return first.to_owned();
    }
    format!("{first} {}", WORDS[rng.random_range(0..WORDS.len())])
}
