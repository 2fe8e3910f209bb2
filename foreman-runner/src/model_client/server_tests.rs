//! The client against a scripted server: what servers do well, badly and never.

use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use super::scripted::{
    Part, STREAM, Server, answer, ask, ask_with, bytes, content, event, finished, good, refusal,
    said, stream, tools,
};
use super::*;
use crate::limits::{RESPONSE_BYTES_MAX, SSE_LINE_BYTES_MAX};

#[tokio::test]
async fn a_stream_in_single_bytes() {
    let text = String::from(": ping\r\n\r\n")
        + &event(
            &json!({"choices": [{"delta": {"role": "assistant", "reasoning_content": "hm"}}]}),
        )
        + &event(&json!({"choices": [{"delta": {"content": "I réad"}}]}))
        + &event(
            &json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "read_file", "arguments": "{\"path\""}}]}}]}),
        )
        + &event(
            &json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ":\"ü\"}"}}]}, "finish_reason": "tool_calls"}]}),
        )
        + &event(
            &json!({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 12}}}),
        )
        + "data: [DONE]\n\n";
    let mut parts = vec![bytes(STREAM)];
    parts.extend(text.as_bytes().iter().map(|byte| bytes([*byte])));
    let server = Server::new(vec![parts]).await;
    let asked = ask(&server.client()).await;
    let reply = asked.result.expect("an answer");
    assert_eq!(
        (reply.content.as_str(), reply.reasoning.as_str(), &reply.finish),
        ("I réad", "hm", &FinishReason::ToolCalls)
    );
    assert_eq!(
        reply.tool_calls,
        [ToolCall {
            id: "c".into(),
            name: "read_file".into(),
            arguments: "{\"path\":\"ü\"}".into()
        }]
    );
    assert_eq!(
        reply.usage,
        CallUsage { prompt_tokens: 20, cached_tokens: 12, completion_tokens: 5, estimated: false }
    );
    assert!(asked.deltas.contains(&Delta::Call { name: "read_file".into() }));
    let body = server.bodies().remove(0);
    assert_eq!(body.get("stream_options"), Some(&json!({"include_usage": true})));
    assert_eq!(body.pointer("/tools/0/function/name"), Some(&json!("read_file")));
}

#[tokio::test]
async fn a_stream_that_is_finished_but_not_closed() {
    let open = event(&json!({"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}));
    let server = Server::new(vec![vec![bytes(STREAM), bytes(open), Part::Silence]]).await;
    let began = Instant::now();
    let reply = ask(&server.client()).await.result.expect("an answer");
    assert!(began.elapsed() < Duration::from_secs(20), "long before the idle limit");
    assert_eq!(reply.content, "hi");
    assert!(reply.usage.estimated && reply.usage.prompt_tokens > 0);
}

#[tokio::test]
async fn answers_that_are_not_streamed() {
    let body = json!({"choices": [{"message": {"role": "assistant", "content": "plain", "tool_calls": [{"id": "x", "type": "function", "function": {"name": "read_file", "arguments": {"path": "a"}}}]}, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}});
    let server =
        Server::new(vec![answer(200, "content-type: application/json\r\n", &body.to_string())])
            .await;
    let reply = ask(&server.client()).await.result.expect("an answer");
    assert_eq!(reply.content, "plain");
    assert_eq!(
        reply.tool_calls.first().map(|call| call.arguments.as_str()),
        Some("{\"path\":\"a\"}")
    );
}

#[tokio::test]
async fn a_stream_cut_in_the_middle_is_asked_again() {
    // Closed cleanly, torn by length, torn by chunks: half an answer is never taken for a whole one.
    let torn_length = vec![
        bytes("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"),
        bytes(said("half")),
    ];
    let torn_chunk = vec![bytes(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nff\r\ndata: {",
    )];
    for cut in [stream(&said("half")), torn_length, torn_chunk, stream("")] {
        let server = Server::new(vec![cut, good()]).await;
        let asked = ask(&server.client()).await;
        assert!(asked.deltas.iter().any(|delta| matches!(delta, Delta::Again { retry: 1, .. })));
        assert_eq!(content(asked), "hello");
        assert_eq!(server.count(), 2);
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let limited = answer(429, "retry-after: 1\r\n", "slow down");
    let server = Server::new(vec![limited, good()]).await;
    assert_eq!(content(ask(&server.client()).await), "hello");
    let times: Vec<Instant> =
        server.requests.lock().expect("unpoisoned").iter().map(|(at, _, _)| *at).collect();
    let [first, second] = times.as_slice() else { panic!("two requests") };
    assert!(second.duration_since(*first) >= Duration::from_secs(1));
}

#[tokio::test]
async fn faults_that_pass_are_tried_a_bounded_number_of_times() {
    for status in [408, 409, 425, 429, 500, 502, 503, 529] {
        let server = Server::new(vec![refusal(status, "busy"); 5]).await;
        let error = ask(&server.client()).await.result.expect_err("no answer");
        let ModelError::Unavailable { attempts: 3, last, .. } = &error else {
            panic!("{status}: {error}")
        };
        assert_eq!(last, &format!("HTTP {status}: busy"));
        assert_eq!(server.count(), 3);
    }
}

#[tokio::test]
async fn refusals_are_final_and_told_in_the_servers_words_without_the_key() {
    let echo = refusal(401, "bad key sk-secret-key-1234\n  given");
    let server = Server::new(vec![echo]).await;
    let client = server
        .client_with(|s| s.api_key = Some(SecretString::from("sk-secret-key-1234".to_owned())));
    let error = ask(&client).await.result.expect_err("refused");
    assert!(
        matches!(&error, ModelError::Unauthorized { status: 401, message, .. } if message == "bad key [redacted] given"),
        "{error}"
    );
    assert!(!format!("{error:?} {client:?}").contains("sk-secret"));
    let heads = server
        .requests
        .lock()
        .expect("unpoisoned")
        .first()
        .map(|(_, head, _)| head.clone())
        .expect("asked");
    assert!(heads.contains("authorization: Bearer sk-secret-key-1234"));

    for status in [400, 404, 413, 422] {
        let server = Server::new(vec![refusal(status, &"no ".repeat(5_000))]).await;
        let error = ask(&server.client()).await.result.expect_err("refused");
        assert!(
            matches!(&error, ModelError::Rejected { status: s, message, .. } if *s == status && message.len() <= 600),
            "{error}"
        );
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test]
async fn a_context_that_is_too_small_is_recognised_loud_or_silent() {
    let words = "the request exceeds the available context size (4096 tokens), try increasing it";
    let server = Server::new(vec![refusal(400, words)]).await;
    let error = ask(&server.client()).await.result.expect_err("refused");
    assert!(
        matches!(error, ModelError::ContextTooLong { context_tokens: Some(4096), .. }),
        "{error}"
    );
    // Ollama says nothing and reads only the end.
    let server = Server::new(vec![good()]).await;
    let messages = [
        Message::system("orders"),
        Message::user("let answer = compute(question);\n".repeat(1_000)),
    ];
    let error = ask_with(&server.client(), CallMode::Native, &messages, &CancellationToken::new())
        .await
        .result
        .expect_err("cut");
    assert!(matches!(error, ModelError::ContextTruncated { prompt_tokens: 9, .. }), "{error}");
}

#[tokio::test]
async fn fields_that_a_server_refuses_are_left_out_from_then_on() {
    let wants = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.";
    let server = Server::new(vec![
        refusal(400, "temperature is not supported with this model"),
        refusal(400, "unknown field stream_options"),
        refusal(400, wants),
        good(),
        good(),
        refusal(400, "temperature is still not supported"),
    ])
    .await;
    let client = server.client();
    assert_eq!(content(ask(&client).await), "hello");
    assert_eq!(content(ask(&client).await), "hello");
    let fields = ["temperature", "stream_options", "max_tokens", "max_completion_tokens"];
    let sent: Vec<Vec<&str>> = server
        .bodies()
        .iter()
        .map(|body| fields.into_iter().filter(|field| body.get(*field).is_some()).collect())
        .collect();
    let last = vec!["max_completion_tokens"];
    assert_eq!(
        sent,
        [
            vec!["temperature", "stream_options", "max_tokens"],
            vec!["stream_options", "max_tokens"],
            vec!["max_tokens"],
            last.clone(),
            last,
        ]
    );
    // What it refuses although it was left out is its last word.
    let error = ask(&client).await.result.expect_err("refused");
    assert!(
        matches!(&error, ModelError::Rejected { message, .. } if message.contains("still")),
        "{error}"
    );
}

#[tokio::test]
async fn pages_redirects_and_other_services_are_no_chat() {
    let html = "<html><body>Welcome to nginx</body></html>";
    let page = answer(200, "content-type: text/html; charset=utf-8\r\n", html);
    let plain = answer(200, "content-type: text/plain\r\n", "hello there");
    let other = answer(200, "content-type: application/json\r\n", "{\"status\": \"ok\"}");
    for (reply, part) in [(page, "HTML page"), (plain, "hello there"), (other, "status")] {
        let server = Server::new(vec![reply]).await;
        let error = ask(&server.client()).await.result.expect_err("no chat");
        assert!(
            matches!(&error, ModelError::NotChat { what, .. } if what.contains(part)),
            "{error}"
        );
    }
    let moved = answer(307, "location: https://elsewhere.example/v1\r\n", "");
    let server = Server::new(vec![moved]).await;
    let error = ask(&server.client()).await.result.expect_err("moved");
    assert!(error.to_string().contains("https://elsewhere.example/v1"), "{error}");
    let server = Server::new(vec![answer(404, "content-type: text/html\r\n", html)]).await;
    assert!(matches!(
        ask(&server.client()).await.result,
        Err(ModelError::Rejected { status: 404, .. })
    ));
}

#[tokio::test]
async fn silence_has_a_limit_everywhere() {
    let quick = |s: &mut OpenAiSettings| {
        s.timeouts = Timeouts {
            turn: Duration::from_secs(30),
            header: Duration::from_millis(200),
            idle: Duration::from_millis(200),
        };
    };
    // Before the answer, in the stream, in a body: tried again, then good.
    let in_body = vec![
        bytes("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"),
        Part::Silence,
    ];
    for silent in [
        vec![Part::Silence],
        vec![bytes(STREAM), Part::Silence],
        vec![bytes(STREAM), bytes(said("ha")), Part::Silence],
        in_body,
    ] {
        let server = Server::new(vec![silent, good()]).await;
        assert_eq!(content(ask(&server.client_with(quick)).await), "hello");
    }
    // A slow but steady stream is not cut, though it takes longer than either limit.
    let mut steady = vec![bytes(STREAM)];
    for _ in 0..8 {
        steady.extend([Part::Pause(60), bytes(said("."))]);
    }
    steady.push(bytes(finished()));
    let server = Server::new(vec![steady]).await;
    assert_eq!(content(ask(&server.client_with(quick)).await), "........");
    // All together there is a limit too.
    let server = Server::new(vec![vec![Part::Silence]; 9]).await;
    let client = server.client_with(|s| {
        s.timeouts = Timeouts {
            turn: Duration::from_secs(1),
            header: Duration::from_millis(200),
            idle: Duration::from_secs(9),
        };
        s.retries_max = 9;
    });
    let error = ask(&client).await.result.expect_err("no answer");
    assert!(
        matches!(&error, ModelError::TimedOut { seconds: 1, last, .. } if last.contains("no answer within")),
        "{error}"
    );
}

#[tokio::test]
async fn cancelling_ends_the_call_and_the_connection_at_once() {
    let server = Server::new(vec![vec![bytes(STREAM), bytes(said("ha")), Part::Silence]]).await;
    let client = server.client();
    let cancel = CancellationToken::new();
    let (tools, kwargs) = (tools(), Map::new());
    let messages = [Message::user("task")];
    let request = ChatRequest {
        model: "m",
        messages: &messages,
        tools: &tools,
        mode: CallMode::Native,
        temperature: None,
        output_tokens_max: 9,
        chat_template_kwargs: &kwargs,
    };
    let trigger = cancel.clone();
    let mut on_delta = move |_| trigger.cancel();
    let result = client.complete(&request, &mut on_delta, &cancel).await;
    assert!(matches!(result, Err(ModelError::Cancelled)));
    tokio::time::timeout(Duration::from_secs(10), server.left.notified())
        .await
        .expect("the server saw it go");
}

#[tokio::test]
async fn floods_are_bounded() {
    let once = |s: &mut OpenAiSettings| s.retries_max = 0;
    let server = Server::new(vec![vec![bytes(STREAM), Part::Endless(vec![b'x'; 1 << 20])]]).await;
    let error = ask(&server.client_with(once)).await.result.expect_err("a line without end");
    assert!(error.to_string().contains("a line of the stream is too long"), "{error}");
    let server = Server::new(vec![vec![
        bytes(STREAM),
        Part::Endless(format!(": {}\n", "x".repeat(1 << 20)).into_bytes()),
    ]])
    .await;
    let error = ask(&server.client_with(once)).await.result.expect_err("an answer without end");
    assert!(error.to_string().contains(&format!("longer than {RESPONSE_BYTES_MAX}")), "{error}");
    // A line below the limit is taken.
    let server =
        Server::new(vec![stream(&(said(&"y".repeat(SSE_LINE_BYTES_MAX / 2)) + &finished()))]).await;
    assert_eq!(content(ask(&server.client_with(once)).await).len(), SSE_LINE_BYTES_MAX / 2);
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    // The port is free again and nobody else on this machine answers there.
    let server = Server::new(vec![]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let mut settings = server.settings();
    settings.base_url = BaseUrl::parse(&address).expect("a URL");
    settings.retries_max = 0;
    let error = ask(&OpenAiClient::new(settings).expect("made")).await.result.expect_err("nobody");
    assert!(matches!(error, ModelError::Unavailable { attempts: 1, .. }), "{error}");
}

#[tokio::test]
async fn schema_mode_asks_for_json_and_reads_it() {
    let call =
        json!({"thought": "look", "tool": "read_file", "arguments": {"path": "a"}}).to_string();
    let server = Server::new(vec![
        stream(&(said(&call) + &finished())),
        stream(&(said("{\"tool\":") + &finished())),
    ])
    .await;
    let client = server.client();
    let messages = [Message::system("orders"), Message::user("task")];
    let reply = ask_with(&client, CallMode::Schema, &messages, &CancellationToken::new())
        .await
        .result
        .expect("an answer");
    assert_eq!(
        (reply.content.as_str(), reply.source, reply.tool_calls.len()),
        ("look", CallSource::Schema, 1)
    );
    let body = server.bodies().remove(0);
    assert!(body.get("tools").is_none());
    assert_eq!(body.pointer("/response_format/type"), Some(&json!("json_schema")));
    let reply = ask_with(&client, CallMode::Schema, &messages, &CancellationToken::new())
        .await
        .result
        .expect("an answer");
    assert!(
        reply.tool_calls.is_empty() && reply.problem.is_some_and(|p| p.contains("not valid JSON"))
    );
}

#[tokio::test]
async fn the_models_of_a_server() {
    let list = json!({"object": "list", "data": [{"id": "a", "meta": {"n_ctx": 4096}}, {"id": "b"}, {"no": "id"}]});
    let server = Server::new(vec![
        answer(200, "content-type: application/json\r\n", &list.to_string()),
        answer(200, "", "[]"),
        refusal(403, "no"),
    ])
    .await;
    let client = server.client();
    let models = client.list_models().await.expect("listed");
    assert_eq!(
        models,
        [
            ModelInfo { id: "a".into(), context_tokens: Some(4096) },
            ModelInfo { id: "b".into(), context_tokens: None }
        ]
    );
    assert!(matches!(client.list_models().await, Err(ModelError::NotChat { .. })));
    assert!(matches!(
        client.list_models().await,
        Err(ModelError::Unauthorized { status: 403, .. })
    ));
}
