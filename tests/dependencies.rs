//! What a build takes from elsewhere: only from the public registry, only under these licences.

use std::process::Command;

use serde_json::Value;

/// Licences that an Apache-2.0 program may be built with, as SPDX names them.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Whether an SPDX expression can be met with the licences above.
fn is_met(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

#[test]
fn every_dependency_comes_from_the_registry_under_a_known_licence() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "only {} packages: has cargo metadata changed?", packages.len());
    for package in packages {
        let name = &package["name"];
        if name == "howdah" {
            continue;
        }
        assert_eq!(package["source"], REGISTRY, "{name} comes from elsewhere");
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_met(licence), "{name} is licensed {licence:?}, which is not on the list");
    }
}

#[test]
fn an_expression_is_met_by_one_of_each_alternative() {
    assert!(is_met("MIT OR Apache-2.0"));
    assert!(is_met("MIT/Apache-2.0"));
    assert!(is_met("(MIT OR GPL-3.0) AND Unicode-3.0"));
    assert!(!is_met("GPL-3.0"));
    assert!(!is_met("MIT AND GPL-3.0"));
}
