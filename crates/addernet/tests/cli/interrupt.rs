//! Ctrl-C.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Folder, addernet};

#[test]
fn ctrl_c_during_quantize_ends_it_with_130_and_leaves_no_file() {
    let folder = Folder::new();
    let mut command = addernet(["quantize".as_ref(), folder.model().as_os_str()]);
    // Hours of work.
    command.args([
        "--bits",
        "4",
        "--dataset",
        "shapes",
        "--bn-images",
        "100000000",
        "-o",
    ]);
    command
        .arg(folder.path("q.safetensors"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(
        child.try_wait().unwrap().is_none(),
        "it should still be at work"
    );
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(output.stdout, b"");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "addernet: interrupted\n"
    );
    assert_eq!(folder.files(), ["lenet.safetensors"]);
}
