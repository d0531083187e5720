use bytes::Bytes;
use millrace_events::Envelope;
use proptest::prelude::*;

use super::*;
use crate::tests::Door;
use crate::{Call, Request};

/// Agents of crawlers, of tools, and of people: a crawler's marks wherever it stands, a tool's only as the event's own.
#[track_caller]
fn check(agent: &str, crawler: bool, tool: bool) {
    assert_eq!(is_crawler(agent), crawler, "{agent}");
    let context = serde_json::json!({"locale": "en", "userAgent": agent}).to_string();
    assert_eq!(is_robot(&context, "", false), crawler || tool, "{agent}");
}

#[test]
fn crawlers_say_what_they_are_in_a_word() {
    for agent in [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0) Chrome/116.0 Safari/537.36",
        "Mozilla/5.0 (compatible; YandexBot/3.0)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0)",
        "Mozilla/5.0 (compatible; MJ12bot/v1.4.8)",
        "Mozilla/5.0 (compatible; Yahoo! Slurp)",
        "Sogou web spider/4.0",
        "360Spider",
        "GPTBot/1.2",
        "AdsBot-Google (+http://www.google.com/adsbot.html)",
        "ia_archiver",
        "facebookexternalhit/1.1",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0 Safari/537.36",
        "Mozilla/5.0 (Unknown; Linux) AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1 Safari/538.1",
        "Mozilla/5.0 (linux) AppleWebKit/537.36 (KHTML, like Gecko) jsdom/22.1.0",
        "Mozilla/5.0 (Macintosh) AppleWebKit/537.36 Chrome/109.0 Safari/537.36 Chrome-Lighthouse",
        "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
        "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        "check_http/v2.3.3 (nagios-plugins 2.3.3)",
        "averylongnameofsomethingthatisarobot",
        "Scrapy/2.11 (+https://scrapy.org)",
    ] {
        check(agent, true, true);
    }
}

#[test]
fn a_tool_is_a_robot_only_when_it_is_the_events_own_agent() {
    for agent in [
        "curl/8.5.0",
        "Wget/1.21.4",
        "python-requests/2.31.0",
        "Python-urllib/3.11",
        "Go-http-client/1.1",
        "Java/17.0.9",
        "axios/1.6.2",
        "PostmanRuntime/7.36.0",
        "analytics-python/2.3.2",
    ] {
        // An SDK of a server names itself to the door, and nobody to an event.
        check(agent, false, !agent.starts_with("analytics"));
    }
}

#[test]
fn people_are_none() {
    for agent in [
        "",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
        "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0",
        // A telephone.
        "Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20 PRO) AppleWebKit/537.36 Chrome/119.0 Mobile Safari/537.36",
        "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8)",
        "okhttp/4.12.0",
        "MyApp/3 CFNetwork/1490.0.4 Darwin/23.2.0",
        "Mozilla/5.0 (X11; Linux) Bottle/1 Botany Abbott/2 Robotics/3 Spiderman/1",
        "bo t, b-o-t",
        "\u{1f916}",
    ] {
        check(agent, false, false);
    }
}

#[test]
fn the_events_own_agent_goes_before_that_of_the_request() {
    const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0";
    let own = |agent: &str| format!(r#"{{"userAgent":"{agent}"}}"#);
    let posthog = |name: &str, agent: &str| format!(r#"{{"{name}":"{agent}"}}"#);
    for (context, properties, from_crawler, expected) in [
        (String::new(), String::new(), false, false),
        (String::new(), String::new(), true, true),
        (own(BROWSER), String::new(), true, false),
        (own("Googlebot"), String::new(), false, true),
        (own(""), String::new(), true, true),
        (r#"{"userAgent":7}"#.to_owned(), String::new(), true, true),
        (String::new(), posthog("$raw_user_agent", "Googlebot"), false, true),
        (String::new(), posthog("$user_agent", "curl/8.5.0"), false, true),
        (String::new(), posthog("$raw_user_agent", BROWSER), true, false),
        (own(BROWSER), posthog("$raw_user_agent", "Googlebot"), false, false),
        // A property of that name that is somebody else's.
        (String::new(), posthog("user_agent", "Googlebot"), false, false),
        // Not where SDKs put it.
        (r#"{"page":{"userAgent":"Googlebot"}}"#.to_owned(), String::new(), false, false),
        (r#"{"userAgent":"Google\u0062ot"}"#.to_owned(), String::new(), false, true),
    ] {
        assert_eq!(is_robot(&context, &properties, from_crawler), expected, "{context} {properties} {from_crawler}");
    }
}

#[test]
fn that_it_is_a_robot_is_believed_and_that_it_is_none_is_not() {
    for (context, expected) in [
        (r#"{"robot":true}"#, true),
        (r#"{"bot":true}"#, true),
        (r#"{"robot":false,"bot":true}"#, true),
        (r#"{"robot":"true"}"#, false),
        (r#"{"robot":1}"#, false),
        (r#"{"robot":false}"#, false),
        (r#"{"robot":null}"#, false),
        (r#"{"notabot":true}"#, false),
        (r#"{"robot":false,"userAgent":"Googlebot"}"#, true),
    ] {
        assert_eq!(is_robot(context, "", false), expected, "{context}");
    }
}

/// What a call is marked as, sent by a client with this agent to the door.
fn marked(call: Call, body: &str, from_crawler: bool) -> Vec<bool> {
    let door = Door::new();
    let authorization = Some("Basic d2s6".to_owned());
    let request =
        Request { authorization, from_crawler, body: Bytes::copy_from_slice(body.as_bytes()), ..Request::default() };
    door.request(call, request).unwrap();
    assert_eq!(door.letters(), []);
    door.envelopes().iter().map(|Envelope { robot, .. }| *robot).collect()
}

#[test]
fn the_mark_is_in_the_log_through_every_door() {
    let event =
        |id: &str, context: &str| format!(r#"{{"type":"track","messageId":"{id}","userId":"u","event":"e"{context}}}"#);
    let batch = |context: &str, events: &[String]| format!(r#"{{"batch":[{}]{context}}}"#, events.join(","));
    let bot = r#","context":{"userAgent":"Googlebot/2.1"}"#;
    assert_eq!(marked(Call::Track, &event("a", bot), false), [true]);
    assert_eq!(marked(Call::Track, &event("a", ""), false), [false]);
    assert_eq!(marked(Call::Track, &event("a", ""), true), [true]);
    assert_eq!(marked(Call::Batch, &batch("", &[event("a", bot), event("b", "")]), false), [true, false]);
    // The context of a batch is that of each event.
    assert_eq!(
        marked(Call::Batch, &batch(bot, &[event("a", ""), event("b", r#","context":{}"#)]), false),
        [true, true]
    );
    let captured = |agent: &str| {
        format!(
            r#"{{"event":"$pageview","uuid":"a","distinct_id":"u","properties":{{"$raw_user_agent":"{agent}"}},"api_key":"wk"}}"#
        )
    };
    assert_eq!(marked(Call::Capture, &captured("AhrefsBot/7.0"), false), [true]);
    assert_eq!(marked(Call::Capture, &captured("Mozilla/5.0 Firefox/121.0"), true), [false]);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(context in any::<String>(), properties in any::<String>(), agent in any::<String>()) {
        is_robot(&context, &properties, false);
        is_crawler(&agent);
        let own = serde_json::json!({"userAgent": agent}).to_string();
        prop_assert_eq!(is_robot(&own, &properties, false), is_crawler(&agent) || is_tool(&agent));
    }
}
