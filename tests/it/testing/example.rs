//! The example of a tested handler does what it says.

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/testing_a_handler.rs"]
mod testing_a_handler;

#[tokio::test(start_paused = true)]
async fn the_example_tells_how_its_handler_answers() {
    let expected = "\
called directly: 201 Created
after the ttl: 201 Created
without the store: 503 Service Unavailable";
    assert_eq!(testing_a_handler::report().await, expected);
}
