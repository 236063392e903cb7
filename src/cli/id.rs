//! `pangea id`: who the command line, or a node, is.

use std::path::PathBuf;

use serde_json::json;

use super::common::{make_private_directory, own_key_path};
use super::exit::Failure;
use super::{Context, data};
use crate::keyfile;

const HELP: &str = concat!(
    "EXAMPLES:
  pangea id                          your own identity, with which you put and get
  pangea id --data /srv/pangea       the identity of the node in that directory

Your own is made the first time, in $XDG_DATA_HOME/pangea/identity.key (by default
~/.local/share/pangea/identity.key). Keep a copy: it owns what you have put.
With --json the last line is {\"id\",\"file\",\"made\"}.",
    crate::exit_codes!()
);

/// Show an identity
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// A node's data directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<u8, Failure> {
    let (path, identity, origin) = match &args.data {
        Some(data) => {
            let path = data::key_path(data);
            let identity = keyfile::load(&path)?;
            (path, identity, keyfile::Origin::Found)
        }
        None => {
            let path = own_key_path()?;
            make_private_directory(&path)?;
            let (identity, origin) = keyfile::load_or_make(&path)?;
            (path, identity, origin)
        }
    };
    let id = identity.peer().to_string();
    let json = json!({
        "id": id,
        "file": path.to_string_lossy(),
        "made": origin == keyfile::Origin::Made,
    });
    context.screen.result(&id, &json)?;
    Ok(0)
}
