//! Finding a data set's files in the folder that was given, or one level below it.

use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::kind::{DatasetKind, Split};

/// One way in which a data set's files may lie in a folder: the names of its files, each with its
/// alternatives (`x` or `x.gz`).
pub(crate) struct Arrangement<'a> {
    /// The folder, relative to the one given; "" is that folder itself.
    pub(crate) folder: &'a str,
    /// Per file, the names by which it may go.
    pub(crate) files: &'a [&'a [&'a str]],
}

/// The first arrangement that is there, and its folder with the path of each file.
pub(crate) struct Located {
    pub(crate) arrangement: usize,
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<PathBuf>,
}

/// Looks for the arrangements in order.
///
/// # Errors
/// [`DataError::NotFound`]: if some files of an arrangement are there, it names those that are missing
/// from it; if none is, it lists everything that would have done.
pub(crate) fn locate(
    kind: DatasetKind,
    split: Split,
    dir: &Path,
    arrangements: &[Arrangement<'_>],
) -> Result<Located, DataError> {
    let not_found = |looked_for| DataError::NotFound {
        kind,
        split,
        dir: dir.to_path_buf(),
        looked_for,
    };
    if !dir.is_dir() {
        let looked_for = format!("the folder itself, which {}", absence(dir));
        return Err(not_found(looked_for));
    }
    let mut incomplete = None;
    for (arrangement, Arrangement { folder, files }) in arrangements.iter().enumerate() {
        let path = if folder.is_empty() {
            dir.to_path_buf()
        } else {
            dir.join(folder)
        };
        let found: Vec<Option<PathBuf>> = files
            .iter()
            .map(|names| {
                names
                    .iter()
                    .map(|name| path.join(name))
                    .find(|path| path.is_file())
            })
            .collect();
        let missing: Vec<&str> = found
            .iter()
            .zip(*files)
            .filter(|(f, _)| f.is_none())
            .map(|(_, names)| names[0])
            .collect();
        if missing.is_empty() {
            let files = found.into_iter().flatten().collect();
            return Ok(Located {
                arrangement,
                dir: path,
                files,
            });
        }
        if missing.len() < files.len() && incomplete.is_none() {
            incomplete = Some(format!(
                "{} in {}, missing beside the other files there",
                missing.join(", "),
                place(folder)
            ));
        }
    }
    Err(not_found(
        incomplete.unwrap_or_else(|| describe(arrangements)),
    ))
}

fn place(folder: &str) -> String {
    if folder.is_empty() {
        "it".to_owned()
    } else {
        format!("{folder}/")
    }
}

/// Why a path is no folder, to continue "which …".
pub(crate) fn absence(path: &Path) -> &'static str {
    if path.exists() {
        "is not a folder"
    } else {
        "does not exist"
    }
}

/// "a, b in it or in x/; c, d in it or in y/": folders that share their file names stand together.
fn describe(arrangements: &[Arrangement<'_>]) -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for Arrangement { folder, files } in arrangements {
        let names: Vec<&str> = files.iter().map(|names| names[0]).collect();
        let names = names.join(", ");
        let place = place(folder);
        match groups.iter_mut().find(|(known, _)| *known == names) {
            Some((_, places)) => places.push(place),
            None => groups.push((names, vec![place])),
        }
    }
    let groups: Vec<String> = groups
        .into_iter()
        .map(|(names, places)| format!("{names} in {}", places.join(" or ")))
        .collect();
    groups.join("; ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ARRANGEMENTS: &[Arrangement<'static>] = &[
        Arrangement {
            folder: "",
            files: &[&["a.bin"], &["b.bin", "b.bin.gz"]],
        },
        Arrangement {
            folder: "sub",
            files: &[&["a.bin"], &["b.bin", "b.bin.gz"]],
        },
        Arrangement {
            folder: "other",
            files: &[&["c"]],
        },
    ];

    fn look(dir: &Path) -> Result<Located, DataError> {
        locate(DatasetKind::Cifar10, Split::Test, dir, ARRANGEMENTS)
    }

    #[test]
    fn finds_the_folder_itself_or_a_subfolder_and_alternative_names() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("sub")).unwrap();
        for name in ["a.bin", "b.bin.gz"] {
            fs::write(temp.path().join("sub").join(name), "").unwrap();
        }
        let sub = temp.path().join("sub");
        for dir in [temp.path(), &sub] {
            let located = look(dir).unwrap();
            assert_eq!(located.dir, sub);
            assert_eq!(located.files, [sub.join("a.bin"), sub.join("b.bin.gz")]);
        }
    }

    #[test]
    fn an_incomplete_arrangement_names_what_is_missing() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("sub")).unwrap();
        fs::write(temp.path().join("sub/a.bin"), "").unwrap();
        let message = look(temp.path()).err().unwrap().to_string();
        assert!(
            message.contains("looked for b.bin in sub/, missing beside"),
            "{message}"
        );
    }

    #[test]
    fn an_empty_folder_lists_everything_and_the_command() {
        let temp = tempfile::tempdir().unwrap();
        let message = look(temp.path()).err().unwrap().to_string();
        let dir = temp.path().display();
        assert_eq!(
            message,
            format!(
                "the test split of cifar10 was not found in {dir}: looked for a.bin, b.bin in it or sub/; \
                 c in other/; to fetch it: addernet download cifar10 --data-dir {dir}"
            )
        );
    }

    #[test]
    fn a_missing_folder_and_a_file_in_its_place_are_told_apart() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(
            look(&file)
                .err()
                .unwrap()
                .to_string()
                .contains("is not a folder")
        );
        let gone = temp.path().join("gone");
        assert!(
            look(&gone)
                .err()
                .unwrap()
                .to_string()
                .contains("does not exist")
        );
    }
}
