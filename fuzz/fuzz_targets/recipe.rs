//! Recipes of training: any text is one that can be written and read again, or there is an error. What follows a NUL
//! is a field that is replaced.
#![no_main]

use addernet_train::Recipe;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parts = text.split('\0');
    let toml = parts.next().unwrap_or_default();
    let overrides: Vec<&str> = parts.collect();
    if let Ok(recipe) = Recipe::parse("fuzz", toml, &overrides) {
        // A seed above 2^63 - 1 is none of TOML's numbers.
        if let Ok(written) = recipe.to_toml() {
            assert!(Recipe::parse("again", &written, &[""; 0]).is_ok(), "{written}");
        }
    }
});
