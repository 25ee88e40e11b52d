//! The OpenAPI document: it is valid, the service does what it says, and `/docs` shows it.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json as body};
use tokio::{process::Command, time::timeout};

use crate::service::{Service, header, json, send};

const DOCUMENT: &str = "/openapi.json";

async fn document(service: &Service) -> Value {
    json(send(service.get(DOCUMENT)).await).await
}

/// Writes a document to a file of the test called `test`.
fn write(test: &str, document: &Value) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).expect("a folder of its own");
    let file = folder.join("openapi.json");
    fs::write(&file, document.to_string()).expect("it can be written");
    file
}

/// Runs a program to its end, with its caches next to `file`.
async fn run(program: &str, arguments: &[&str], file: &PathBuf) -> (bool, String) {
    let mut command = Command::new(test_servers::python(program));
    command.args(arguments).arg(file).current_dir(file.parent().expect("it is in a folder"));
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis");
    command.env("NO_PROXY", "*").env("CHECKS", format!("{tests}/checks.py"));
    let ended = timeout(Duration::from_mins(5), command.kill_on_drop(true).output()).await;
    let Output { status, stdout, stderr } = ended.expect("it ends").expect("it starts");
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Holds `service` to the document in `file`.
async fn schemathesis(service: &Service, further: &[&str], file: &PathBuf) -> (bool, String) {
    let configuration =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/schemathesis.toml");
    let url = format!("http://{}", service.addr);
    let mut arguments = vec!["--config-file", configuration, "run", "--url", &url];
    arguments.extend(further);
    run("schemathesis", &arguments, file).await
}

#[tokio::test]
async fn the_document_is_valid() {
    let service = Service::start(&[]).await;
    let mut document = document(&service).await;
    let file = write("valid", &document);
    let (is_valid, said) = run("openapi-spec-validator", &[], &file).await;
    assert!(is_valid, "{said}");

    document["paths"]["/v1/members"]["post"]["parameters"][0]["in"] = "nowhere".into();
    let file = write("valid", &document);
    let (is_valid, said) = run("openapi-spec-validator", &[], &file).await;
    assert!(!is_valid, "{said}");
}

#[tokio::test]
async fn the_service_does_what_the_document_says() {
    let service = Service::start(&[("RUST_LOG", "warn")]).await;
    let file = write("true", &document(&service).await);
    let (is_true, said) = schemathesis(&service, &[], &file).await;
    assert!(is_true && said.contains("Tested: 7"), "{said}");
}

#[tokio::test]
async fn a_document_that_is_not_true_is_found_out() {
    let service = Service::start(&[("RUST_LOG", "warn")]).await;
    let document = document(&service).await;
    let mut without_a_status = document.clone();
    let invite = &mut without_a_status["paths"]["/downstream-entities/onboarding/invite"]["post"];
    invite["responses"].as_object_mut().and_then(|responses| responses.remove("400"));
    let mut with_a_header = document;
    let schema = body!({"type": "string", "format": "uuid"});
    let key = body!({"name": "idempotency-key", "in": "header", "schema": schema});
    with_a_header["paths"]["/downstream-entities"]["get"]["parameters"] = body!([key]);
    for (false_document, said_of_it) in
        [(without_a_status, "Undocumented status code"), (with_a_header, "it is no replay")]
    {
        let file = write("false", &false_document);
        let (is_true, said) = schemathesis(&service, &["--phases", "coverage"], &file).await;
        assert!(!is_true && said.contains(said_of_it), "{said}");
    }
}

#[tokio::test]
async fn the_page_that_shows_it_takes_nothing_from_elsewhere() {
    let service = Service::start(&[]).await;
    let page = send(service.get("/docs")).await;
    assert_eq!((page.status(), header(&page, "content-type")), (StatusCode::OK, "text/html"));
    let page = page.text().await.expect("it has a body");
    let attributes = page.split(['"', '\'']).skip(1).step_by(2);
    let mut files: Vec<&str> = attributes.filter(|value| value.contains('.')).collect();
    assert!(files.len() >= 5, "{page}");
    files.push("/openapi.json");
    for file in files {
        assert!(!file.contains("//"), "{page}");
        let path = if file.starts_with('/') { file.to_owned() } else { format!("/docs/{file}") };
        assert_eq!(send(service.get(&path)).await.status(), StatusCode::OK, "{path}");
    }

    let started = send(service.get("/docs/swagger-initializer.js")).await;
    let started = started.text().await.expect("it has a body");
    assert!(started.contains(r#""url": "/openapi.json""#), "{started}");
    // Otherwise another site validates the document.
    assert!(started.contains(r#""validatorUrl": "none""#), "{started}");
}

#[tokio::test]
async fn the_document_says_what_the_attributes_do() {
    let service = Service::start(&[]).await;
    let document = document(&service).await;
    for (path, headers, ttl) in [
        (
            "/downstream-entities/onboarding/invite",
            &["idempotency-key", "x-idempotency-key"][..],
            "1 hour",
        ),
        (
            "/downstream-entities/onboarding/add",
            &["idempotency-key", "x-idempotency-key"],
            "1 hour",
        ),
        ("/v1/members", &["x-idempotency-key"], "7 days"),
    ] {
        let operation = &document["paths"][path]["post"];
        let parameters = operation["parameters"].as_array().expect("it has parameters");
        let names: Vec<&Value> = parameters.iter().map(|parameter| &parameter["name"]).collect();
        assert_eq!(names, headers, "{path}");
        let replayed = &operation["responses"]["201"]["headers"]["idempotent-replayed"];
        assert!(replayed["description"].as_str().is_some_and(|text| text.ends_with(ttl)), "{path}");
        assert!(operation["responses"]["503"].is_object(), "{path}");
    }
}
