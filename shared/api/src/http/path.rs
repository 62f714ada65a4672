//! Paths as Okra's clients call them: with any mixture of Okra's prefixes, which [`normalise_path`] removes, and of
//! families ([`find_family`]), by which errors name them.

/// First segments that Okra's hosts had before the path, in any mixture.
const PREFIXES: [&str; 3] = ["v1", "v2", "sandbox"];

/// Prefix segments of a path at most.
const MAX_PREFIX_SEGMENTS: usize = 3;

/// The path after Okra's prefixes, with double slashes collapsed.
pub(crate) fn normalise_path(path: &str) -> String {
    let mut segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // A stage that a gateway leaves in front of a prefix.
    if let [stage, prefix, _, ..] = segments.as_slice()
        && !PREFIXES.contains(stage)
        && PREFIXES.contains(prefix)
    {
        segments.remove(0);
    }
    for _ in 0..MAX_PREFIX_SEGMENTS {
        if segments.len() > 1
            && segments
                .first()
                .is_some_and(|first| PREFIXES.contains(first))
        {
            segments.remove(0);
        }
    }
    segments.join("/")
}

/// Okra's family of a path, as errors name it.
pub(crate) fn find_family(path: &str) -> &'static str {
    let families = [
        ("balance", "BALANCE"),
        ("transaction", "TRANSACTIONS"),
        ("account", "ACCOUNTS"),
        ("record", "RECORDS"),
        ("customer", "CUSTOMERS"),
        ("bank", "BANKS"),
        ("auth/", "AUTH"),
        ("auths", "AUTH"),
    ];
    families
        .into_iter()
        .find(|(part, _)| path.contains(part))
        .map_or("API", |(_, family)| family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_okras_leads_to_one_path() {
        for path in [
            "/balance/refresh",
            "/v2/balance/refresh",
            "/v1/balance/refresh",
            "/sandbox/v2/balance/refresh",
            "/v2/sandbox/balance/refresh",
            "/v2/sandbox/sandbox/balance/refresh",
            "/v2//balance//refresh/",
            "/prod/v2/balance/refresh",
        ] {
            assert_eq!(normalise_path(path), "balance/refresh", "{path}");
        }
        assert_eq!(normalise_path("/"), "");
        assert_eq!(normalise_path("/v2"), "v2");
    }
}
