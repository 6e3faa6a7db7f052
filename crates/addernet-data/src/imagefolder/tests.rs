use std::fs;

use image::RgbImage;

use super::*;

fn image(path: &Path, grey: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(4, 4, image::Rgb([grey; 3]))
        .save(path)
        .unwrap();
}

fn open(dir: &Path, split: Split) -> Result<(ImageFolder, Vec<String>, Vec<u32>), DataError> {
    ImageFolder::open(dir, split, 4, 4)
}

fn names(folder: &ImageFolder) -> Vec<String> {
    let relative = |file: &PathBuf| {
        file.strip_prefix(&folder.dir)
            .unwrap()
            .display()
            .to_string()
    };
    folder.files.iter().map(relative).collect()
}

#[test]
fn classes_and_files_are_sorted_as_torchvision_sorts_them() {
    let temp = tempfile::tempdir().unwrap();
    for (file, grey) in [
        ("val/b/2.png", 4),
        ("val/b/10.png", 3),
        ("val/B/x.PNG", 0),
        ("val/a/z.png", 1),
        // Files of a folder come before those of its sub-folders.
        ("val/a/sub/a.png", 2),
        ("train/c/1.png", 9),
    ] {
        image(&temp.path().join(file), grey);
    }
    fs::write(temp.path().join("val/b/notes.txt"), "no image").unwrap();
    fs::create_dir(temp.path().join("val/.cache")).unwrap();
    fs::write(temp.path().join("val/list.txt"), "no class").unwrap();

    let (folder, classes, labels) = open(temp.path(), Split::Test).unwrap();
    assert_eq!(classes, ["B", "a", "b"]);
    assert_eq!(
        names(&folder),
        ["B/x.PNG", "a/z.png", "a/sub/a.png", "b/10.png", "b/2.png"]
    );
    assert_eq!(labels, [0, 1, 1, 2, 2]);
    for (i, grey) in [0, 1, 2, 3, 4].into_iter().enumerate() {
        assert_eq!(folder.image(i).unwrap(), [grey; 48]);
    }

    let (folder, classes, _) = open(temp.path(), Split::Train).unwrap();
    assert_eq!(
        (classes, names(&folder)),
        (vec!["c".to_owned()], vec!["c/1.png".to_owned()])
    );
    // The folder of one split may be given itself.
    let (folder, ..) = open(&temp.path().join("val"), Split::Test).unwrap();
    assert_eq!(folder.files.len(), 5);
}

#[test]
fn test_stands_in_for_val() {
    let temp = tempfile::tempdir().unwrap();
    image(&temp.path().join("test/a/1.png"), 0);
    assert_eq!(
        open(temp.path(), Split::Test).unwrap().0.dir(),
        temp.path().join("test")
    );
}

#[test]
fn a_missing_split_is_not_replaced_by_another() {
    let temp = tempfile::tempdir().unwrap();
    image(&temp.path().join("val/a/1.png"), 0);
    let error = open(temp.path(), Split::Train).unwrap_err().to_string();
    let dir = temp.path().display();
    assert_eq!(
        error,
        format!(
            "the train split of imagefolder was not found in {dir}: looked for train/ with one \
             sub-folder per class (beside val/, which is there)"
        )
    );
}

#[test]
fn classes_may_be_called_like_splits() {
    let temp = tempfile::tempdir().unwrap();
    image(&temp.path().join("car/1.png"), 0);
    image(&temp.path().join("train/1.png"), 0);
    let (_, classes, _) = open(temp.path(), Split::Test).unwrap();
    assert_eq!(classes, ["car", "train"]);
}

#[test]
fn broken_layouts_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let complaint = |dir: &Path| open(dir, Split::Test).unwrap_err().to_string();
    let error = complaint(&temp.path().join("gone"));
    assert!(
        error.contains("gone: looked for the folder itself, which does not exist"),
        "{error}"
    );
    let error = complaint(temp.path());
    assert!(
        error.contains("one sub-folder per class in it, or in val/ or test/"),
        "{error}"
    );

    image(&temp.path().join("a/1.png"), 0);
    fs::create_dir(temp.path().join("empty")).unwrap();
    let error = complaint(temp.path());
    assert!(
        error.contains("empty: the class has no images: expected files ending in .jpg"),
        "{error}"
    );

    fs::write(temp.path().join("empty/scan.TIF"), "").unwrap();
    let error = complaint(temp.path());
    assert!(
        error.contains("scan.TIF: TIFF images cannot be read"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_found() {
    use std::os::unix::fs::symlink;
    let temp = tempfile::tempdir().unwrap();
    image(&temp.path().join("elsewhere/1.png"), 5);
    fs::create_dir(temp.path().join("data")).unwrap();
    symlink(
        temp.path().join("elsewhere"),
        temp.path().join("data/class"),
    )
    .unwrap();
    let (folder, classes, _) = open(&temp.path().join("data"), Split::Test).unwrap();
    assert_eq!((classes, folder.files.len()), (vec!["class".to_owned()], 1));

    symlink(
        temp.path().join("elsewhere"),
        temp.path().join("elsewhere/loop"),
    )
    .unwrap();
    let error = open(&temp.path().join("data"), Split::Test)
        .unwrap_err()
        .to_string();
    assert!(error.contains("leads back"), "{error}");
}
