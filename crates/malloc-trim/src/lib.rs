//! Gives memory that was freed back to the system.
//!
//! glibc keeps what was freed in its arenas for good, unless it lies at their top: after a burst the process would stay as
//! large as it was at its largest. There is no safe call for it in a library that is looked after, and `gatepass` itself
//! forbids `unsafe`; so the one declaration stands here, apart.

/// Asks glibc to give back every free page of every arena (`malloc_trim(3)`). With another C library it does nothing; with
/// another allocator it finds nothing. Each arena is locked while it is gone through: not for a hot path.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    malloc_trim(0);
}

// Safe to call: it takes no pointer, and glibc locks what it works on (malloc_trim(3), "MT-Safe").
#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    safe fn malloc_trim(pad: usize) -> core::ffi::c_int;
}
