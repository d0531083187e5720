//! How often who may ask.

use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;
use millrace_http::{IpNet, LimitOptions, Rate, RateError};
use serde::Deserialize;

/// What one address may ask a second beyond the loopback unless configured otherwise: far above what the people behind one
/// address do, below what keeps a server busy.
const ADDRESS_REQUESTS: Rate = Rate { per_second: 1_000, burst: 10_000 };

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) enum Limit {
    /// Without a limit.
    Off,
    /// With one.
    At(Rate),
}

/// A limit in a file: `500`, `"500/2000"` or `"off"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Text(String),
}

impl TryFrom<Written> for Limit {
    type Error = RateError;

    fn try_from(written: Written) -> Result<Self, RateError> {
        match written {
            Written::Number(number) => number.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Limit {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        if text.trim() == "off" { Ok(Limit::Off) } else { text.parse().map(Limit::At) }
    }
}

impl Limit {
    fn rate(self) -> Option<Rate> {
        match self {
            Limit::Off => None,
            Limit::At(rate) => Some(rate),
        }
    }
}

/// The flags about limits.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LimitArgs {
    /// Events a second that each write key may send: RATE, RATE/BURST or off. A key that has sent its burst is answered 429
    /// until it has waited [default: off].
    #[arg(long, value_name = "LIMIT", env = "MILLRACE_KEY_EVENTS_PER_SECOND")]
    pub(crate) key_events_per_second: Option<Limit>,
    /// Requests a second with which each write key may send events [default: off].
    #[arg(long, value_name = "LIMIT", env = "MILLRACE_KEY_REQUESTS_PER_SECOND")]
    pub(crate) key_requests_per_second: Option<Limit>,
    /// Requests a second of each address [default: 1000/10000; off when listening on the loopback].
    #[arg(long, value_name = "LIMIT", env = "MILLRACE_ADDRESS_REQUESTS_PER_SECOND")]
    pub(crate) address_requests_per_second: Option<Limit>,
    /// Proxies in front of this server, as addresses or networks: only they are believed when they say for whom they ask,
    /// in X-Forwarded-For or Forwarded [default: none].
    #[arg(long, value_name = "CIDR", env = "MILLRACE_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    pub(crate) trusted_proxies: Option<Vec<IpNet>>,
}

/// The same in a file, as the table `limits`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitFile {
    key_events_per_second: Option<Limit>,
    key_requests_per_second: Option<Limit>,
    address_requests_per_second: Option<Limit>,
    trusted_proxies: Option<Vec<String>>,
}

impl LimitFile {
    /// Puts the flags and the file together.
    pub(super) fn decide(self, args: &LimitArgs, is_loopback: bool) -> anyhow::Result<LimitOptions> {
        let default = if is_loopback { Limit::Off } else { Limit::At(ADDRESS_REQUESTS) };
        let of = |given: Option<Limit>, file: Option<Limit>| given.or(file).and_then(Limit::rate);
        let from_file = || {
            let networks = self.trusted_proxies.unwrap_or_default();
            networks.iter().map(|text| network(text)).collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg)
        };
        Ok(LimitOptions {
            key_events: of(args.key_events_per_second, self.key_events_per_second),
            key_requests: of(args.key_requests_per_second, self.key_requests_per_second),
            address_requests: of(
                args.address_requests_per_second,
                Some(self.address_requests_per_second.unwrap_or(default)),
            ),
            trusted_proxies: args.trusted_proxies.clone().map_or_else(from_file, Ok)?,
        })
    }
}

/// A network, or one address of it.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>()
        .ok()
        .or_else(one)
        .ok_or_else(|| format!("`{text}` is neither an address nor a network such as 10.0.0.0/8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(file: &str, args: &LimitArgs, is_loopback: bool) -> LimitOptions {
        toml::from_str::<LimitFile>(file).unwrap().decide(args, is_loopback).unwrap()
    }

    #[test]
    fn an_address_has_a_limit_beyond_the_loopback_and_a_key_only_when_asked() {
        let args = LimitArgs::default();
        let open = decide("", &args, true);
        assert_eq!((open.address_requests, open.key_events, open.key_requests), (None, None, None));
        assert_eq!(decide("", &args, false).address_requests, Some(ADDRESS_REQUESTS));
        assert_eq!(decide("address_requests_per_second = \"off\"", &args, false).address_requests, None);
        let five = decide("address_requests_per_second = 5", &args, true).address_requests;
        assert_eq!(five, Some(Rate { per_second: 5, burst: 50 }));
        let args = LimitArgs { address_requests_per_second: Some(Limit::Off), ..LimitArgs::default() };
        assert_eq!(decide("address_requests_per_second = 5", &args, false).address_requests, None, "a flag wins");
        let file = "key_events_per_second = \"500/2000\"\nkey_requests_per_second = 7";
        let both = decide(file, &args, true);
        assert_eq!(both.key_events, Some(Rate { per_second: 500, burst: 2_000 }));
        assert_eq!(both.key_requests, Some(Rate { per_second: 7, burst: 70 }));
    }

    #[test]
    fn proxies_are_networks_or_addresses() {
        let options = decide("trusted_proxies = [\"10.0.0.0/8\", \"::1\"]", &LimitArgs::default(), true);
        assert_eq!(options.trusted_proxies, [network("10.0.0.0/8").unwrap(), network("::1/128").unwrap()]);
        assert!(network("proxy.example").unwrap_err().contains("neither an address nor a network"));
        for wrong in ["limits = 1", "key_events_per_second = 0", "key_events_per_second = \"5/\"", "x = 1"] {
            assert!(toml::from_str::<LimitFile>(wrong).is_err(), "{wrong}");
        }
    }
}
