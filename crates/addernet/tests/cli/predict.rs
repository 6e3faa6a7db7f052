//! `addernet predict`.

use std::process::Command;

use crate::common::{Folder, addernet, error, json, stdout};

/// A folder with two images and something that is none.
fn images(folder: &Folder) -> std::path::PathBuf {
    let images = folder.path("images");
    std::fs::create_dir(&images).unwrap();
    for (name, shade) in [("b.png", 40u8), ("a.png", 200)] {
        let image =
            image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([shade, x as u8 * 8, y as u8 * 8]));
        image.save(images.join(name)).unwrap();
    }
    images
}

fn predict(arguments: &[&str]) -> Command {
    addernet([&["predict"][..], arguments].concat())
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_quantized_model_on_a_folder() {
    let folder = Folder::new();
    folder.quantize("q.safetensors", &["--bits", "8", "--no-reestimate-bn"]);
    let (model, images) = (folder.path("q.safetensors"), images(&folder));
    let report = json(predict(&[
        text(&model),
        text(&images),
        "--top",
        "3",
        "--json",
    ]));
    assert_eq!(report["engine"], "integer");
    let files = report["images"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    assert!(files[0]["file"].as_str().unwrap().ends_with("a.png"));
    for file in files {
        let classes = file["classes"].as_array().unwrap();
        let logits: Vec<f64> = file["logits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap())
            .collect();
        assert_eq!((classes.len(), logits.len()), (3, 10));
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(classes[0]["logit"].as_f64().unwrap(), largest);
        assert!(classes[0]["score"].as_f64() >= classes[1]["score"].as_f64());
        assert!(classes[0]["name"].is_string());
    }
    // The same pixels through the engine itself.
    let engine = addernet::Engine::load(&model).unwrap();
    let pixels =
        addernet::load_pixels(images.join("a.png"), engine.program().graph(), None).unwrap();
    let logits = engine.run(&pixels[..]).unwrap();
    let first = logits.image(0)[0] as f64 * logits.scale();
    assert_eq!(files[0]["logits"][0].as_f64().unwrap(), first);
    assert!(stdout(predict(&[text(&model), text(&images)])).contains("a.png"));
}

#[test]
fn bad_images_are_named_and_the_others_predicted() {
    let folder = Folder::new();
    folder.quantize("q.safetensors", &["--bits", "4", "--no-reestimate-bn"]);
    let (model, images) = (folder.path("q.safetensors"), images(&folder));
    let good = std::fs::read(images.join("a.png")).unwrap();
    std::fs::write(images.join("cut.png"), &good[..good.len() / 2]).unwrap();
    std::fs::write(images.join("empty.png"), b"").unwrap();
    let output = predict(&[text(&model), text(&images), "missing.png", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let messages = String::from_utf8(output.stderr).unwrap();
    for name in ["cut.png", "empty.png", "missing.png"] {
        assert!(
            messages.lines().any(|line| line.contains(name)),
            "{messages}"
        );
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["images"].as_array().unwrap().len(), 2);
    assert_eq!(report["failures"].as_array().unwrap().len(), 3);
}

#[test]
fn a_checkpoint_needs_to_know_its_normalisation() {
    let folder = Folder::new();
    let images = images(&folder);
    let message = error(predict(&[text(&folder.model()), text(&images)]));
    assert!(message.contains("--dataset"), "{message}");
    let report = json(predict(&[
        text(&folder.model()),
        text(&images),
        "--dataset",
        "shapes",
        "--json",
    ]));
    assert_eq!(report["engine"], "float");
}
