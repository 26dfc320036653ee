//! `howdah completions` and `howdah man`: what a shell and `man` want to know of the command line, made from
//! the command line itself.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;

use super::{DONE, terminal::write_bytes};
use crate::fault::{Fault, Result};

/// Prints a shell's completions.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(mut command: Command, shell: Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "howdah", &mut script);
    write_bytes(&script)?;
    Ok(DONE)
}

/// Writes a manual page for howdah and each of its commands into a folder, or howdah's own to standard output.
///
/// # Errors
/// A page cannot be written.
pub fn pages(command: &Command, folder: Option<&PathBuf>) -> Result<u8> {
    match folder {
        None => write_bytes(&page(command)?)?,
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| Fault::io(folder.display(), &error))?;
            write_pages(command, "howdah", folder)?;
        }
    }
    Ok(DONE)
}

fn write_pages(command: &Command, name: &str, folder: &Path) -> Result<()> {
    let path = folder.join(format!("{name}.1"));
    let named = command.clone().name(name.to_owned());
    std::fs::write(&path, page(&named)?).map_err(|error| Fault::io(path.display(), &error))?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        write_pages(below, &format!("{name}-{}", below.get_name()), folder)?;
    }
    Ok(())
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut page);
    rendered.map_err(|error| Fault::internal(format!("manual page: {error}")))?;
    Ok(page)
}
