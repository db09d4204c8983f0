//! Any bytes as a body of any API are refused or become a conversation that can be rendered.

#![no_main]

use ds4_chat::{Options, render};
use ds4_server::{Error, Request, anthropic, openai, responses};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(openai::Body::parse(data).and_then(openai::Body::into_request));
    check(openai::Body::parse(data).and_then(openai::Body::into_completion));
    check(responses::Body::parse(data).and_then(responses::Body::into_request));
    check(anthropic::Body::parse(data).and_then(anthropic::Body::into_request));
});

fn check(request: Result<Request, Error>) {
    match request {
        Ok(request) => {
            let rendered = render(&request.conversation, &Options::default());
            // What a client wrote never becomes a control token; all there are stand in the text.
            assert!(rendered.specials.iter().all(|special| rendered.text.get(special.clone()).is_some()));
        }
        Err(error) => assert!(error.status().is_client_error() && !error.to_string().is_empty()),
    }
}
