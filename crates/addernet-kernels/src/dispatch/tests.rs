use super::*;

#[test]
fn the_best_kernel_is_the_default() {
    let best = available()[0].name();
    assert_eq!(choose(None, None).unwrap().name(), best);
    assert_eq!(choose(None, Some("")).unwrap().name(), best);
}

#[test]
fn an_argument_beats_the_environment() {
    assert_eq!(choose(None, Some("generic")).unwrap().name(), "generic");
    for kernel in available() {
        assert_eq!(
            choose(Some(kernel.name()), Some("abacus")).unwrap().name(),
            kernel.name()
        );
    }
}

#[test]
fn unknown_names_list_what_there_is() {
    let message = |name, environment| choose(name, environment).err().unwrap().to_string();
    let requested = message(Some("abacus"), None);
    let environment = message(None, Some("abacus"));
    assert!(environment.contains(KERNEL_ENV), "{environment}");
    for message in [requested, environment] {
        assert!(message.contains("`abacus`"), "{message}");
        for kernel in available() {
            assert!(message.contains(kernel.name()), "{message}");
        }
    }
    assert!(choose(Some(""), None).is_err());
}

#[test]
fn names_are_unique_and_end_with_the_portable_one() {
    let names: Vec<_> = available().iter().map(|kernel| kernel.name()).collect();
    let unique: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert_eq!(names.last(), Some(&"generic"));
    #[cfg(target_arch = "x86_64")]
    {
        assert_eq!(names.contains(&"avx2"), is_x86_feature_detected!("avx2"));
        assert_eq!(
            names.contains(&"avx512"),
            is_x86_feature_detected!("avx512f")
        );
    }
    #[cfg(target_arch = "aarch64")]
    assert_eq!(names, ["neon", "generic"]);
}
