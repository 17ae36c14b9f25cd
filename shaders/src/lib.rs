//! The WGSL compute kernels of wgrad, one file each, embedded as text. `README.md` says how they are written.

/// Name and text of each kernel, sorted by name; `build.rs` writes it.
static KERNELS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// The text of `<family>/<kernel>.wgsl`, asked for as `"<family>/<kernel>"`.
pub fn source(name: &str) -> Option<&'static str> {
    let index = KERNELS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    KERNELS.get(index).map(|(_, text)| *text)
}

/// The names of all files, sorted; those under `common/` are pieces for import, not kernels.
pub fn names() -> impl Iterator<Item = &'static str> {
    KERNELS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_listed_file_is_found() {
        assert!(super::names().count() >= 3);
        for name in super::names() {
            assert!(super::source(name).is_some_and(|text| !text.is_empty()), "{name}");
        }
        assert!(super::source("util/no_such_kernel").is_none());
    }
}
