//! Python names that run programs or code, or access files and hosts, when Python loads a pickle.

/// Modules that no legitimate checkpoint uses.
const MODULES: [&str; 17] = [
    "asyncio",
    "ctypes",
    "ftplib",
    "httpx",
    "importlib",
    "pdb",
    "pip",
    "pty",
    "requests",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "urllib",
    "webbrowser",
    "zipimport",
];

/// Functions of the built-in module.
const BUILTINS: [&str; 7] = [
    "eval",
    "exec",
    "compile",
    "open",
    "execfile",
    "__import__",
    "breakpoint",
];

/// Harmless names in the module `os` that occur in configurations.
const HARMLESS_OF_OS: [&str; 6] = [
    "stat_result",
    "terminal_size",
    "_Environ",
    "environ",
    "PathLike",
    "fspath",
];

/// Returns whether `module.name` is such a name. Safety does not depend on this list, because no name is ever resolved.
pub(super) fn is_dangerous(module: &str, name: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    match top {
        "os" | "posix" | "nt" => !HARMLESS_OF_OS.contains(&name),
        "builtins" | "__builtin__" => BUILTINS.contains(&name),
        "torch" => matches!(
            (module, name),
            ("torch", "load") | ("torch.hub" | "torch.utils.cpp_extension", _)
        ),
        "numpy" => matches!(
            (module, name),
            ("numpy.testing._private.utils", _) | ("numpy", "load" | "fromfile")
        ),
        _ => MODULES.contains(&top),
    }
}
