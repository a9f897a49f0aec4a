//! The transport of a client on a pair of streams: a message a line, bounded in both directions.
//!
//! A message that cannot be taken is answered with an error under its own id wherever that can be found, so that no
//! client waits in vain. rmcp's own transport drops such messages in silence.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequest, ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, GetExtensions as _, JsonRpcRequest,
    RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;

use super::LINGER;
use crate::gateway::room::{Exchange, Room, weight};
use crate::gateway::standard_streams::HangUp;
use crate::gateway::unread::Unread;
use crate::gateway::wire::{LineReader, RawLine, Skim, TooLong};

/// How many lines in a row may be no messages before the client is taken to speak something else.
const MAX_BAD_LINES: usize = 100;
/// Within how many bytes of a message its method is looked for, to read the usual one fast.
const BEGINNING: usize = 256;
/// What some programs write at the start of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a client's messages and writes to it.
pub(super) struct ClientLines<R, W> {
    lines: LineReader<BufReader<R>>,
    write: Arc<Mutex<W>>,
    unread: Unread,
    /// Looked at while nothing is read.
    hang_up: HangUp,
    /// Room for large requests that are not answered yet.
    requests: Room,
    bad_lines: usize,
}

impl<R, W> ClientLines<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// A client on these streams, the first of which `hang_up` looks at.
    pub(super) fn new(read: R, write: W, hang_up: HangUp) -> Self {
        Self {
            lines: LineReader::new(BufReader::with_capacity(64 << 10, read), TooLong::Skip),
            write: Arc::new(Mutex::new(write)),
            unread: Unread::default(),
            hang_up,
            requests: Room::default(),
            bad_lines: 0,
        }
    }

    /// Answers what is no message. Written by a task, because reading may be dropped at any time.
    fn refuse(&mut self, code: ErrorCode, reason: String, id: Option<Value>) {
        self.bad_lines += 1;
        self.turn_away(code, reason, id);
    }

    /// Answers what cannot be taken now.
    fn turn_away(&mut self, code: ErrorCode, reason: String, id: Option<Value>) {
        tracing::warn!(reason, "refused a message of the client");
        let id = id.and_then(|id| serde_json::from_value::<RequestId>(id).ok());
        let error = ServerJsonRpcMessage::error(ErrorData::new(code, reason, None), id);
        tokio::spawn(self.send(error));
    }

    /// What to do with a line that is no message as rmcp has it.
    fn refuse_line(&mut self, error: &serde_json::Error) {
        let line = self.lines.line();
        // Only its kind and place are told: the text of a mismatch quotes what was sent.
        let place = format!("line {} column {}", error.line(), error.column());
        let (code, reason, id) = match serde_json::from_slice::<Value>(line) {
            Ok(Value::Array(_)) => {
                let reason = "batches are not supported; send one message a line".to_owned();
                (ErrorCode::INVALID_REQUEST, reason, None)
            }
            Ok(message) => {
                let id = message.get("id").cloned();
                if id.is_none() && message.get("method").is_some_and(Value::is_string) {
                    tracing::debug!("ignored a malformed notification of the client");
                    return;
                }
                let reason = "the message is not as MCP has it; check its method and parameters".to_owned();
                (ErrorCode::INVALID_REQUEST, reason, id)
            }
            Err(syntax) => {
                let kind = if std::str::from_utf8(line).is_err() {
                    "it is not UTF-8"
                } else if syntax.to_string().starts_with("recursion limit") {
                    "it is nested too deeply"
                } else {
                    "it is not JSON"
                };
                (ErrorCode::PARSE_ERROR, format!("the message cannot be read: {kind} ({place})"), Skim::id_of(line))
            }
        };
        self.refuse(code, reason, id);
    }
}

/// Reads a message. Nearly all are calls of a tool, and rmcp's own way tries all other requests before that one.
fn parse(line: &[u8]) -> serde_json::Result<ClientJsonRpcMessage> {
    const METHOD: &[u8] = b"\"tools/call\"";
    let start = line.get(..BEGINNING).unwrap_or(line);
    if start.windows(METHOD.len()).any(|part| part == METHOD)
        && let Ok(call) = serde_json::from_slice::<JsonRpcRequest<CallToolRequest>>(line)
    {
        let JsonRpcRequest { jsonrpc, id, request } = call;
        let request = ClientRequest::CallToolRequest(request);
        return Ok(ClientJsonRpcMessage::Request(JsonRpcRequest { jsonrpc, id, request }));
    }
    serde_json::from_slice(line)
}

impl<R, W> Transport<RoleServer> for ClientLines<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let (write, unread) = (Arc::clone(&self.write), self.unread.clone());
        let mut sending = Box::pin(async move {
            let (mut line, _waiting) = unread.admit(message).await?;
            line.push(b'\n');
            let mut write = write.lock().await;
            write.write_all(&line).await?;
            write.flush().await
        });
        // rmcp makes a task of what it gets. While the client reads, an answer need not wait for that.
        let at_once = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        async move {
            match at_once {
                Poll::Ready(sent) => sent,
                Poll::Pending => sending.await,
            }
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if self.bad_lines > MAX_BAD_LINES {
                tracing::error!("closed the conversation: the client sends no MCP messages");
                return None;
            }
            tokio::select! {
                biased;
                () = self.unread.listen() => {}
                // What it asked for last is of no use to anybody: it does not even read the answers before. One that reads, if
                // slowly, gets all of them: with each that it takes this begins anew.
                () = async { self.hang_up.noticed().await; tokio::time::sleep(LINGER).await } => return None,
            }
            match self.lines.next_line().await {
                RawLine::End | RawLine::Failed(_) => return None,
                RawLine::TooLong(id) => {
                    let reason = "the message is longer than 16 MiB and was skipped; send less at once".to_owned();
                    self.refuse(ErrorCode::INVALID_REQUEST, reason, id);
                }
                RawLine::Line => {
                    let line = self.lines.line();
                    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
                    // Before it is parsed, which makes it larger.
                    let weight = weight(line);
                    if let Err(reason) = self.requests.holds(weight) {
                        let id = Skim::id_of(line);
                        self.turn_away(ErrorCode::INVALID_REQUEST, reason, id);
                        continue;
                    }
                    let Some(place) = self.requests.try_take(weight) else {
                        let id = Skim::id_of(line);
                        let reason = "the requests that are not answered yet are too large together for one more of \
                                      this size; wait for answers, or send less at once";
                        self.turn_away(ErrorCode::INTERNAL_ERROR, reason.to_owned(), id);
                        continue;
                    };
                    match parse(line) {
                        Ok(mut message) => {
                            self.bad_lines = 0;
                            if let (true, ClientJsonRpcMessage::Request(request)) = (place.is_taken(), &mut message) {
                                // It goes where the request goes.
                                request.request.extensions_mut().insert(Arc::new(Exchange::new(place)));
                            }
                            return Some(message);
                        }
                        Err(error) => self.refuse_line(&error),
                    }
                }
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        match self.write.try_lock() {
            Ok(mut write) => write.shutdown().await,
            // An answer is being written that the client does not read: whoever waited for that would not end.
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncBufReadExt as _;

    use super::*;

    #[test]
    fn the_short_way_to_a_call_leads_to_the_same_message() {
        for text in [
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"a":[1.0,null]}}}"#,
            r#"{"method":"tools/call","params":{"name":"t","_meta":{"progressToken":"p","x":{}}},"id":"i","jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","task":{"ttl":1},"arguments":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"t"}}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"t"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"\"tools/call\""}}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"tools/call","params":{"name":"t"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call"}}"#,
        ] {
            let (short, long) = (parse(text.as_bytes()), serde_json::from_str::<ClientJsonRpcMessage>(text));
            assert_eq!(format!("{short:?}"), format!("{long:?}"), "{text}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_written_at_once_while_the_client_reads_and_whole_when_it_reads_later() {
        let (client, server) = tokio::io::duplex(100);
        let (mut client, write) = (BufReader::new(client), server);
        let mut lines = ClientLines::new(tokio::io::empty(), write, HangUp::default());
        let answer = |text: &str| ServerJsonRpcMessage::error(ErrorData::internal_error(text.to_owned(), None), None);
        // Nobody waits for it.
        drop(lines.send(answer("short")));
        let mut line = String::new();
        client.read_line(&mut line).await.unwrap();
        assert!(line.contains("short"), "{line}");
        // More than fits.
        let (long, longer) = ("x".repeat(1000), "y".repeat(1000));
        let sending = [lines.send(answer(&long)), lines.send(answer(&longer))];
        let reading = async {
            for expected in [long, longer] {
                line.clear();
                client.read_line(&mut line).await.unwrap();
                assert!(line.contains(&expected) && line.ends_with("}\n"), "{line}");
            }
        };
        let (sent, ()) = tokio::join!(futures::future::try_join_all(sending), reading);
        sent.unwrap();
    }
}
