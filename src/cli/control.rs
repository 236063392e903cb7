//! How `pangea status` asks a running node: one line of JSON each way over a socket in the data
//! directory that only its owner can open.
//!
//! Request `{"command":"status"}`; the answer is the status, or `{"error":{"kind","message"}}`.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::time::Duration;

/// The longest request.
const REQUEST_BYTES_MAX: u64 = 256;
/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// The longest line that a status has for one owner.
const OWNER_BYTES_MAX: u64 = 256;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one who has connected may take to say what they want: they keep others waiting.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);

const _: () = assert!(
    pangea_engine::limits::OWNERS_SHOWN_MAX as u64 * OWNER_BYTES_MAX < ANSWER_BYTES_MAX / 2
);

/// A question to the node's main thread, and where the answer goes.
pub struct Question {
    answer: std::sync::mpsc::SyncSender<String>,
}

impl Question {
    /// Answers with one line of JSON.
    pub fn answer(self, line: &serde_json::Value) {
        // Who asked may have given up.
        let _ = self.answer.try_send(line.to_string());
    }
}

#[cfg(unix)]
pub use unix::{Control, ask};

#[cfg(unix)]
mod unix {
    use std::io::{self, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::sync::mpsc::{self, Receiver, SyncSender};
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{ANSWER_BYTES_MAX, PATIENCE, Question, REQUEST_BYTES_MAX, REQUEST_PATIENCE};
    use crate::cli::data::{CONTROL_SOCKET, control_path};
    use crate::cli::exit::{Failure, Kind};
    use crate::socket::{self, read_line, refusal};

    /// The node's end.
    pub struct Control {
        questions: Receiver<Question>,
        path: PathBuf,
    }

    impl Control {
        /// Listens in the data directory, which the caller has locked: a socket that is there
        /// already was left by a node that is gone.
        pub fn listen(data: &Path) -> io::Result<Control> {
            let path = control_path(data);
            let listener = socket::listen(data, CONTROL_SOCKET)?;
            let (sender, questions) = mpsc::sync_channel(1);
            std::thread::Builder::new()
                .name("control".into())
                .stack_size(128 << 10)
                .spawn(move || serve(&listener, &sender))?;
            Ok(Control { questions, path })
        }

        /// The next question, if one comes within `patience`.
        pub fn next(&self, patience: Duration) -> Option<Question> {
            match self.questions.recv_timeout(patience) {
                Ok(question) => Some(question),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(patience);
                    None
                }
            }
        }
    }

    impl Drop for Control {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// One at a time, each with a deadline; ends with the process.
    fn serve(listener: &UnixListener, questions: &SyncSender<Question>) {
        for stream in listener.incoming() {
            match stream {
                // A stranger's bad manners are the stranger's trouble.
                Ok(stream) => drop(answer(stream, questions)),
                // Out of descriptors, say: not at once again.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn answer(mut stream: UnixStream, questions: &SyncSender<Question>) -> io::Result<()> {
        stream.set_write_timeout(Some(REQUEST_PATIENCE))?;
        let request = read_line(&stream, REQUEST_BYTES_MAX, REQUEST_PATIENCE)?;
        let line = match serde_json::from_str::<Value>(&request) {
            Ok(request) if request.get("command") == Some(&json!("status")) => {
                let (sender, answers) = mpsc::sync_channel(1);
                let asked = questions.try_send(Question { answer: sender });
                match asked.ok().and_then(|()| answers.recv_timeout(REQUEST_PATIENCE).ok()) {
                    Some(line) => line,
                    None => refusal("busy", "the node is busy; try again"),
                }
            }
            _ => refusal("usage", "the only request is {\"command\":\"status\"}"),
        };
        writeln!(stream, "{line}")
    }

    /// Asks the node that runs on `data` for its status.
    pub fn ask(data: &Path) -> Result<Value, Failure> {
        let shown = data.display();
        let stream = socket::connect(data, CONTROL_SOCKET).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
                Kind::Start,
                format!("no node is running on '{shown}'; start it with: pangea node --data …"),
            ),
            io::ErrorKind::PermissionDenied => Failure::file(format!(
                "the node on '{shown}' belongs to another user: permission denied"
            )),
            _ => Failure::file(format!("the node on '{shown}' cannot be asked: {cause}")),
        })?;
        let asked = || -> io::Result<Value> {
            stream.set_write_timeout(Some(PATIENCE))?;
            writeln!(&stream, "{}", json!({ "command": "status" }))?;
            let line = read_line(&stream, ANSWER_BYTES_MAX, PATIENCE)?;
            serde_json::from_str(&line).map_err(io::Error::other)
        };
        let value = asked().map_err(|cause| {
            Failure::new(Kind::Start, format!("the node on '{shown}' did not answer: {cause}"))
        })?;
        match value.pointer("/error/message").and_then(Value::as_str) {
            Some(message) => Err(Failure::new(Kind::Start, format!("the node says: {message}"))),
            None => Ok(value),
        }
    }

    #[cfg(test)]
    mod tests {
        use std::io::Read;
        use std::os::unix::fs::PermissionsExt;

        use super::*;

        fn answering<T>(control: &Control, client: impl FnOnce() -> T + Send) -> T
        where
            T: Send,
        {
            std::thread::scope(|scope| {
                let client = scope.spawn(client);
                while !client.is_finished() {
                    if let Some(question) = control.next(Duration::from_millis(5)) {
                        question.answer(&json!({ "shards": 3 }));
                    }
                }
                client.join().unwrap()
            })
        }

        #[test]
        fn a_node_answers_through_its_directory() {
            let dir = tempfile::tempdir().unwrap();
            // Longer than a socket's path may be.
            let data = dir.path().join("d".repeat(120));
            std::fs::create_dir(&data).unwrap();
            let control = Control::listen(&data).unwrap();
            let mode = std::fs::metadata(control_path(&data)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let status = answering(&control, || ask(&data)).unwrap();
            assert_eq!(status, json!({ "shards": 3 }));
            drop(control);
            assert!(ask(&data).unwrap_err().message.contains("no node is running"));
        }

        #[test]
        fn a_socket_that_a_dead_node_left_is_taken_over() {
            let dir = tempfile::tempdir().unwrap();
            drop(UnixListener::bind(control_path(dir.path())).unwrap());
            assert_eq!(ask(dir.path()).unwrap_err().kind, Kind::Start);
            let control = Control::listen(dir.path()).unwrap();
            answering(&control, || ask(dir.path())).unwrap();
        }

        #[test]
        fn nonsense_is_refused_and_the_next_one_is_served() {
            let dir = tempfile::tempdir().unwrap();
            let control = Control::listen(dir.path()).unwrap();
            let say = |text: &[u8]| {
                let mut stream = UnixStream::connect(control_path(dir.path())).unwrap();
                let _ = stream.write_all(text);
                let mut answer = String::new();
                let _ = stream.read_to_string(&mut answer);
                answer
            };
            assert!(say(b"hello\n").contains("\"usage\""));
            assert!(say(b"{\"command\":\"dance\"}\n").contains("\"usage\""));
            assert_eq!(say(&[b'x'; REQUEST_BYTES_MAX as usize + 1]), "");
            assert_eq!(say(b"\xff\xfe\n"), "");
            answering(&control, || ask(dir.path())).unwrap();
        }
    }
}

/// Without Unix sockets a node is not asked.
#[cfg(not(unix))]
mod elsewhere {
    use super::{Duration, Question};
    use crate::cli::exit::{Failure, Kind};

    pub struct Control;

    impl Control {
        pub fn listen(_data: &std::path::Path) -> std::io::Result<Control> {
            Ok(Control)
        }

        pub fn next(&self, patience: Duration) -> Option<Question> {
            std::thread::sleep(patience);
            None
        }
    }

    pub fn ask(_data: &std::path::Path) -> Result<serde_json::Value, Failure> {
        Err(Failure::new(Kind::Start, "status is not supported on this system"))
    }
}

#[cfg(not(unix))]
pub use elsewhere::{Control, ask};
