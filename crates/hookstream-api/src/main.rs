//! hookstream-api: everything lives in the library.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    hookstream_runtime::run("hookstream-api", hookstream_api::run)
}
