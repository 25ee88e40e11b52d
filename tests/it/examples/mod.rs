//! The single-file examples do what they say, and the index lists every example.

mod by_hand;
mod handlers;
mod service;
mod stores;

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn the_index_lists_every_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let index = fs::read_to_string(folder.join("README.md")).expect("it is text");
    let links = index.split("](").skip(1).filter_map(|link| link.split(')').next());
    let listed: BTreeSet<_> =
        links.filter(|link| !link.contains("//")).map(str::to_owned).collect();
    let entries = fs::read_dir(&folder).expect("there are examples");
    let names = entries.map(|entry| entry.expect("it can be looked at").file_name());
    let names = names.map(|name| name.into_string().expect("its name is text"));
    let there: BTreeSet<_> = names.filter(|name| name != "README.md").collect();
    assert_eq!(listed, there);
}
