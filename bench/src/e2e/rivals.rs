//! What the same bytes cost elsewhere: a copy on the same disk, and sendme.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Seconds to copy a file, and to copy it and make the copy durable. Through memory, as every program that moves
/// bytes must: a file system that shares blocks would make it free.
pub fn copy(from: &Path, to: &Path) -> Result<(f64, f64), String> {
    let failed = |e: std::io::Error| format!("copy to {}: {e}", to.display());
    let begun = Instant::now();
    let (mut source, mut target) =
        (File::open(from).map_err(failed)?, File::create(to).map_err(failed)?);
    let mut step = vec![0; 1 << 20];
    loop {
        match source.read(&mut step).map_err(failed)? {
            0 => break,
            read => target.write_all(&step[..read]).map_err(failed)?,
        }
    }
    let copied = begun.elapsed().as_secs_f64();
    target.sync_all().map_err(failed)?;
    let durable = begun.elapsed().as_secs_f64();
    std::fs::remove_file(to).map_err(failed)?;
    Ok((copied, durable))
}

/// A process that ends with its value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Seconds for `sendme send` until it prints its ticket, and `sendme receive` with it. `None`
/// without sendme on PATH.
pub fn sendme(file: &Path, place: &Path) -> Result<Option<f64>, String> {
    let program = std::env::var_os("PATH").and_then(|paths| {
        std::env::split_paths(&paths).map(|dir| dir.join("sendme")).find(|path| path.is_file())
    });
    let Some(program) = program else { return Ok(None) };
    let (out, sender_dir) = (place.join("sendme-out"), place.join("sendme-in"));
    for dir in [&out, &sender_dir] {
        std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let failed = |e: std::io::Error| format!("sendme: {e}");
    let begun = Instant::now();
    let mut sender = Command::new(&program);
    sender.arg("send").arg(file).current_dir(&sender_dir);
    let sender = sender.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut sender = Killed(sender.spawn().map_err(failed)?);
    let lines = BufReader::new(sender.0.stdout.take().ok_or("sendme has no output")?).lines();
    let ticket = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("sendme receive ")?.1.trim().to_string()))
        .ok_or("sendme printed no ticket")?;
    let mut receiver = Command::new(&program);
    receiver.args(["receive", &ticket]).current_dir(&out);
    let receiver = receiver.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = receiver.status().map_err(failed)?;
    let taken = begun.elapsed().as_secs_f64();
    drop(sender);
    for dir in [&out, &sender_dir] {
        std::fs::remove_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    match status.success() {
        true => Ok(Some(taken)),
        false => Err(format!("sendme receive failed: {status}")),
    }
}
