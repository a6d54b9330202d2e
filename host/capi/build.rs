//! How the library is linked: under the name that programs look for, and for good. What it started
//! cannot be unmapped from under its threads.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for argument in ["-Wl,-soname,libzepto.so.1", "-Wl,-z,nodelete"] {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }
}
