//! A web server on loopback with one good catalog and many bad answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

const CATALOG: &str = "name: web\ndisplayName: From the web\nregistry:\n  page: {image: mcp/page, odd: 1}\n";

/// Serves until the test ends; its thread goes with the process.
pub(crate) struct Site(SocketAddr);

impl Site {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away in the middle is part of the tests.
                drop(answer(stream));
            }
        });
        Self(address)
    }

    /// The address of a page.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, headers, body): (_, &str, &[u8]) = match path {
        "/catalog.yaml" => ("200 OK", "", CATALOG.as_bytes()),
        "/page" => ("200 OK", "", b"<html><body>Sign in first</body></html>\n"),
        "/binary" => ("200 OK", "", b"\xff\xfe\x00"),
        "/loop" => ("302 Found", "location: /loop\r\n", b""),
        "/elsewhere" => ("302 Found", "location: http://example.com/catalog.yaml\r\n", b""),
        "/huge" => return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\nx"),
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            let block = [b'#'; 1 << 16];
            loop {
                stream.write_all(&block)?;
            }
        }
        _ => ("404 Not Found", "", b"nothing here"),
    };
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
