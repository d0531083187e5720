//! The seeds of every target, and each input that once made it fail, are inputs that it must survive.

use std::path::Path;

use millrace_fuzz::TARGETS;

fn inputs(folder: &str, target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(folder).join(target);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    paths.map(|path| (path.display().to_string(), std::fs::read(&path).expect("the input can be read"))).collect()
}

#[test]
fn every_seed_and_every_former_failure_passes() {
    for (target, law) in TARGETS {
        let seeds = inputs("seeds", target);
        assert!(!seeds.is_empty(), "{target} has no seeds: a fuzzer that begins with nothing finds nothing for long");
        for (path, data) in seeds.into_iter().chain(inputs("regressions", target)) {
            println!("{path}");
            law(&data);
        }
    }
}

#[test]
fn every_target_is_built_for_the_fuzzer() {
    let manifest = std::fs::read_to_string("targets/Cargo.toml").expect("the targets have a manifest");
    for (target, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is missing in targets/Cargo.toml");
    }
}
