//! Classifies an image: cargo run --release -p addernet --example classify -- q4.safetensors frog.png

fn main() -> Result<(), addernet::Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(image)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: classify MODEL.safetensors IMAGE");
        return Ok(());
    };
    let engine = addernet::Engine::load(model)?;
    let pixels = addernet::load_pixels(image, engine.program().graph(), None)?;
    for (class, score) in engine.run(&pixels[..])?.top(0, 3) {
        println!("{:5.1} %  class {class}", 100.0 * score);
    }
    Ok(())
}
