//! `public-api-snapshot NAME.txt NAME.json [--bless]` lists the public API that is in rustdoc's JSON.
//!
//! It must be what the text says, line by line, so that a change of it is read before it is made; and it
//! must name no crate that is not meant to be part of it. `--bless` updates the text.

use std::{collections::BTreeSet, env, error::Error, fs, process::ExitCode};

use public_api::{Builder, PublicApi, tokens::Token};

/// What signatures may name, and why. A new major release of one of them is one of this library, too.
const NAMED: [&str; 17] = [
    // the language's
    "alloc",
    "core",
    "std",
    // what a user of Axum has
    "axum",
    "axum_core",
    "bytes",
    "http",
    "http_body",
    "serde_core",
    "tower_layer",
    "tower_service",
    "uuid",
    // the clients and documents of the features named after them, PostgreSQL's is sqlx
    "aide",
    "redis",
    "sqlx_core",
    "sqlx_postgres",
    "utoipa",
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (text, json, bless) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [text, json] => (text, json, false),
        [text, json, "--bless"] => (text, json, true),
        _ => return Err("usage: public-api-snapshot NAME.txt NAME.json [--bless]".into()),
    };
    let api = Builder::from_rustdoc_json(json)
        .omit_auto_trait_impls(true)
        .omit_blanket_impls(true)
        .build()?;
    let found = api.to_string();
    if bless {
        fs::write(text, &found)?;
    }
    let expected = fs::read_to_string(text).unwrap_or_default();
    let differences = differences(&expected, &found);
    for difference in &differences {
        println!("{difference}");
    }
    let unexpected = unexpected(&api);
    for (name, item) in &unexpected {
        println!("`{name}` is not to be named: {item}");
    }
    let lines = found.lines().count();
    println!(
        "{text}: {lines} lines, {} differ, {} name others",
        differences.len(),
        unexpected.len()
    );
    let is_fine = lines > 1 && differences.is_empty() && unexpected.is_empty();
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The lines that only one of the two has.
fn differences(expected: &str, found: &str) -> Vec<String> {
    let [expected, found]: [BTreeSet<&str>; 2] =
        [expected, found].map(|text| text.lines().collect());
    let gone = expected.difference(&found).map(|line| format!("- {line}"));
    let new = found.difference(&expected).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

/// The crates that are named without being in [`NAMED`], each with the first item that does.
fn unexpected(api: &PublicApi) -> Vec<(String, String)> {
    let mut seen: BTreeSet<String> = NAMED.map(str::to_owned).into();
    let mut unexpected = Vec::new();
    for item in api.items() {
        let tokens: Vec<&Token> = item.tokens().collect();
        for (index, token) in tokens.iter().enumerate() {
            let text = token.text();
            let starts_a_path = tokens.get(index + 1).is_some_and(|next| next.text() == "::")
                && (index == 0 || tokens[index - 1].text() != "::");
            let is_ours = text.starts_with("idempotent_");
            let is_a_crate = text.starts_with(|first: char| first.is_ascii_lowercase());
            if starts_a_path && is_a_crate && !is_ours && seen.insert(text.to_owned()) {
                unexpected.push((text.to_owned(), item.to_string()));
            }
        }
    }
    unexpected
}
