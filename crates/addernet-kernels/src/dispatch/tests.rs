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
fn the_environment_names_kernels_of_both_types() {
    assert_eq!(
        choose_u8(None, None).unwrap().name(),
        available_u8()[0].name()
    );
    let f32_names: Vec<_> = available().iter().map(|kernel| kernel.name()).collect();
    for kernel in available_u8() {
        let name = kernel.name();
        assert_eq!(choose_u8(None, Some(name)).unwrap().name(), name);
        assert_eq!(choose_u8(Some(name), Some("abacus")).unwrap().name(), name);
        // An extension that only u8 kernels use.
        let (base, _) = name.split_once('-').unwrap_or((name, ""));
        if f32_names.contains(&base) {
            assert_eq!(choose(None, Some(name)).unwrap().name(), base);
            assert_eq!(choose(Some(name), None).unwrap().name(), base);
        } else {
            assert!(choose(Some(name), None).is_err());
        }
    }
    let error = |result: Result<KernelU8, KernelError>| result.err().unwrap().to_string();
    for message in [
        error(choose_u8(Some("abacus"), None)),
        error(choose_u8(None, Some("abacus"))),
        error(choose_u8(None, Some("avx512-abacus"))),
    ] {
        assert!(message.contains("abacus`"), "{message}");
        for kernel in available_u8() {
            assert!(message.contains(kernel.name()), "{message}");
        }
    }
    assert!(choose(None, Some("avx512-abacus")).is_err());
    assert!(choose(Some("avx512-abacus"), None).is_err());
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

#[test]
fn names_of_u8_kernels_are_unique_and_end_with_the_portable_one() {
    let names: Vec<_> = available_u8().iter().map(|kernel| kernel.name()).collect();
    let unique: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert_eq!(names.last(), Some(&"generic"));
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = is_x86_feature_detected!("avx512bw");
        let avx2 = is_x86_feature_detected!("avx2");
        assert_eq!(names.contains(&"avx2"), avx2);
        assert_eq!(names.contains(&"avx2-shift"), avx2);
        assert_eq!(names.contains(&"avx512"), avx512);
        assert_eq!(
            names.contains(&"avx512-vnni"),
            avx512 && is_x86_feature_detected!("avx512vnni")
        );
        assert_eq!(
            names.contains(&"avx2-vnni"),
            is_x86_feature_detected!("avxvnni")
        );
    }
    #[cfg(target_arch = "aarch64")]
    {
        let dot = std::arch::is_aarch64_feature_detected!("dotprod");
        assert_eq!(names.contains(&"neon-dotprod"), dot);
        assert!(names.contains(&"neon"));
    }
}
