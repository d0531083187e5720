//! Which events no person caused, as far as the door can see: by the user agent, or because the client says so.
//!
//! | what is looked at | marks when |
//! |---|---|
//! | `context.robot`, `context.bot` | it is `true`. That it is none is not believed: everybody would say so |
//! | the event's own agent: `context.userAgent`, else PostHog's `$raw_user_agent` or `$user_agent` among the properties | it names a crawler, a monitor or a driven browser; or it is that of a tool, such as `curl/8.5.0` |
//! | the agent of the request, when the event has none of its own | it names a crawler, a monitor or a driven browser. A tool's is no sign: the SDKs of servers speak through such libraries, for people |
//!
//! An agent is compared word by word, a word being a run of letters: `Mozilla/5.0 (compatible; Googlebot/2.1)` has the word
//! `Googlebot`, which ends as the names of robots do. Why not one of the long lists of agents that there are: nearly all of
//! what they list says what it is in a word of these, what does not say so is found by its rate (stage 1 looks at that), and
//! a list that nobody renews is wrong without telling.
//!
//! All of this reads the text as sent, builds nothing, and is over after two searches when there is no agent.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::{Raw, pick};

/// Only this much of an agent is looked at, bytes: real ones have a few hundred.
const AGENT_BYTES_MAX: usize = 1_024;

/// The longest word that is known, and room to hold it in lower case.
const WORD_BYTES_MAX: usize = 24;

/// How the names of robots end.
const ENDINGS: [&str; 5] = ["bot", "bots", "crawler", "spider", "scraper"];

/// What an agent begins with that no browser and no app of people has.
const TOOLS: [&str; 15] = [
    "curl/",
    "wget/",
    "python",
    "go-http-client/",
    "java/",
    "apache-httpclient/",
    "libwww-perl/",
    "axios/",
    "node-fetch",
    "undici",
    "ruby",
    "php/",
    "guzzlehttp/",
    "httpie/",
    "postmanruntime/",
];

/// Whether an event is a robot's. `from_crawler` says so of the request that it came with.
pub(crate) fn is_robot(context: &str, properties: &str, from_crawler: bool) -> bool {
    let (claims, own) = of_context(context);
    if claims {
        return true;
    }
    match own.or_else(|| of_properties(properties)).and_then(Raw::string).filter(|agent| !agent.is_empty()) {
        Some(agent) => is_crawler(&agent) || is_tool(&agent),
        None => from_crawler,
    }
}

/// Whether a user agent says that it is a crawler, a monitor, or a browser that a program drives.
pub fn is_crawler(agent: &str) -> bool {
    let agent = &agent.as_bytes()[..agent.len().min(AGENT_BYTES_MAX)];
    agent.split(|byte| !byte.is_ascii_alphabetic()).any(is_robots_word)
}

/// Whether it claims to be a robot's, and its agent.
fn of_context(context: &str) -> (bool, Option<Raw<'_>>) {
    // Both `"robot"` and `"bot"` end so.
    static CLAIM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#"bot""#));
    static AGENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""userAgent""#));
    let is_there = |finder: &Finder<'_>| finder.find(context.as_bytes()).is_some();
    if context.is_empty() || !(is_there(&AGENT) || is_there(&CLAIM)) {
        return (false, None);
    }
    let [agent, robot, bot] = pick(context, &["userAgent", "robot", "bot"]).unwrap_or_default();
    let claims = [robot, bot].into_iter().flatten().any(|claim| claim.as_str() == "true");
    (claims, agent)
}

/// The agent that PostHog's SDKs put among the properties of an event.
fn of_properties(properties: &str) -> Option<Raw<'_>> {
    static AGENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#"user_agent""#));
    AGENT.find(properties.as_bytes())?;
    let [raw, plain] = pick(properties, &["$raw_user_agent", "$user_agent"]).ok()?;
    raw.or(plain)
}

fn is_tool(agent: &str) -> bool {
    let begins =
        |tool: &str| agent.as_bytes().get(..tool.len()).is_some_and(|a| a.eq_ignore_ascii_case(tool.as_bytes()));
    TOOLS.into_iter().any(begins)
}

fn is_robots_word(word: &[u8]) -> bool {
    /// A word of fewer letters says nothing.
    const WORD_BYTES_MIN: usize = 3;
    if word.len() < WORD_BYTES_MIN {
        return false;
    }
    let ends = |ending: &str| {
        let at = word.len().checked_sub(ending.len());
        at.and_then(|at| word.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(ending.as_bytes()))
    };
    let mut lower = [0; WORD_BYTES_MAX];
    let Some(lower) = lower.get_mut(..word.len()) else { return ENDINGS.into_iter().any(ends) };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    match &*lower {
        // A maker of telephones, whose owners are people.
        b"cubot" => false,
        // Who fetches for a search engine, for an archive, or to show what a link leads to.
        b"archiver"
        | b"slurp"
        | b"mediapartners"
        | b"feedfetcher"
        | b"facebookexternalhit"
        | b"bingpreview"
        | b"validator"
        | b"nutch"
        | b"heritrix"
        | b"httrack"
        | b"scrapy" => true,
        // Who looks whether a page is up, or how fast.
        b"monitor" | b"monitoring" | b"pingdom" | b"statuscake" | b"gtmetrix" | b"lighthouse" | b"pagespeed"
        | b"nagios" | b"zabbix" | b"checkly" | b"datadogsynthetics" | b"newrelicpinger" => true,
        // Browsers that a program drives, or that are none.
        b"phantomjs" | b"puppeteer" | b"playwright" | b"selenium" | b"webdriver" | b"cypress" | b"jsdom" => true,
        word => word.starts_with(b"headless") || ENDINGS.into_iter().any(ends),
    }
}

#[cfg(test)]
mod tests;
