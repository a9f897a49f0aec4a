#[test]
fn explore() {
    let engine = docker_mcp::sandbox::engine::Engine::new(None).unwrap();
    for depth in [4, 8, 12, 14, 16, 18] {
        let mut text = String::from("(component (component $c0 (core module $m (func (export \"f\"))) (core instance (instantiate $m)))\n");
        for level in 1..=depth {
            let below = level - 1;
            text += &format!("(component $c{level} (alias outer 1 $c{below} (component $x)) (instance (instantiate $x)) (instance (instantiate $x)))\n");
        }
        text += &format!("(instance (instantiate $c{depth})))");
        let bytes = wat::parse_str(&text).unwrap();
        let began = std::time::Instant::now();
        let done = wasmtime::component::Component::from_binary(engine.wasmtime(), &bytes).map(drop);
        let rss = std::fs::read_to_string("/proc/self/status").unwrap();
        let rss = rss.lines().find(|l| l.starts_with("VmRSS")).unwrap();
        eprintln!("{depth} {} bytes {:?} {rss} {:?}", bytes.len(), began.elapsed(), done.map_err(|e| e.to_string()));
    }
}
