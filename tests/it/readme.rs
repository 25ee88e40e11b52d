//! The README: its first program does what its curl session shows, and its links to this repository lead
//! somewhere.

use std::{env, fs, path::Path};

use idempotent_test_support::Server;
use test_servers::compare_curl_sessions;

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../examples/hello.rs"]
mod hello;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readmes_first_program_is_the_example() {
    let example = include_str!("../../examples/hello.rs").replace("pub(crate) fn", "fn");
    let (_, program) = example.split_once("\n\n").expect("its docs come first");
    assert!(README.contains(&format!("```rust,no_run\n{program}```\n")), "{program}");
}

// `curl` blocks a thread, so the server needs another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readmes_curl_session_gives_what_it_shows() {
    let server = Server::start(hello::app()).await;
    let address = server.address().to_string();
    let session = tokio::task::spawn_blocking(move || compare_curl_sessions(README, &address));
    assert_eq!(session.await.expect("it gives what it shows"), 2);
}

#[test]
fn the_readme_is_short_and_hides_nothing() {
    assert!(README.lines().count() <= 180, "{} lines", README.lines().count());
    let blocks = README.split("```rust").skip(1).filter_map(|block| block.split("```").next());
    for line in blocks.flat_map(str::lines) {
        assert!(
            line != "#" && !line.starts_with("# "),
            "hidden on docs.rs, shown on GitHub: {line}"
        );
    }
}

#[test]
fn links_to_the_repository_lead_somewhere() {
    const REPOSITORY: &str = "https://github.com/idempotent-axum/idempotent-axum/";
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).expect("there are pages");
    let pages = docs.map(|page| page.expect("it can be looked at").path());
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    let mut links = 0;
    for page in pages.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).expect("it is text");
        for link in text.split(REPOSITORY).skip(1) {
            let link = link.split([')', '>', ' ', '\n', '#']).next().unwrap_or_default();
            let path = ["tree/main/", "blob/main/"].iter().find_map(|kind| link.strip_prefix(kind));
            let path = path.unwrap_or_else(|| panic!("{}: {link}", page.display()));
            assert!(root.join(path).exists(), "{}: {path}", page.display());
            links += 1;
        }
    }
    assert!(links > 10, "{links}");
}

#[test]
fn the_pictures_of_a_page_are_its_svg_files() {
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let embedded = ["states", "request"].map(|name| {
        let svg = fs::read(docs.join(format!("how-it-works-{name}.svg"))).expect("it is there");
        format!("[{name}]: data:image/svg+xml;base64,{}\n", BASE64_STANDARD.encode(svg))
    });
    let file = docs.join("how-it-works-images.md");
    if env::var_os("BLESS").is_some() {
        fs::write(&file, embedded.concat()).expect("it can be written");
    }
    let kept = fs::read_to_string(file).expect("it is text");
    assert!(kept == embedded.concat(), "`BLESS=1 cargo test --test it pictures` writes it");
}
