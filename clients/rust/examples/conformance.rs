//! What every client must do (clients/README.md): conformance vectors FILE | talk | again

use keychain_auth::{Attributes, Client, Error, Json, Request};
use std::io::Read;

const SERVICE: &str = "conformance";

fn main() -> Result<(), Error> {
    let words: Vec<String> = std::env::args().collect();
    match words[1].as_str() {
        "vectors" => vectors(&std::fs::read_to_string(&words[2])?),
        "talk" => drop(talk()?),
        _ => {
            let mut client = talk()?;
            println!("restart the daemon");
            std::io::stdin().read_exact(&mut [0])?;
            client.write(SERVICE, &[("b/ключ", "anew")], None)?;
            check("again", client.get(SERVICE, "b/ключ")?.as_deref() == Some("anew"));
        }
    }
    Ok(())
}

fn vectors(text: &str) {
    let document = keychain_auth::parse(text).expect("a JSON file");
    let Some(Json::List(all)) = document.get("vectors") else { panic!("no vectors") };
    for request in all.iter().filter_map(|vector| vector.get("request")) {
        let (targets, values) = (texts(request, "targets"), texts(request, "values"));
        let attributes: Attributes = match request.get("attributes") {
            Some(Json::Object(pairs)) => {
                pairs.iter().map(|(name, value)| (name.clone(), value.as_text().unwrap().to_owned())).collect()
            }
            _ => Attributes::new(),
        };
        let request = Request {
            action: request.text("action").unwrap(),
            service: request.text("service").unwrap(),
            prefix: request.text("match") == Some("prefix"),
            targets: &targets,
            values: &values,
            attributes: Some(&attributes),
        };
        print!("{}", request.encode());
    }
}

fn texts<'a>(request: &'a Json, name: &str) -> Vec<&'a str> {
    match request.get(name) {
        Some(Json::List(items)) => items.iter().filter_map(Json::as_text).collect(),
        _ => Vec::new(),
    }
}

fn talk() -> Result<Client, Error> {
    let mut client = Client::new()?;
    let odd = "ünï\n\"quoted\"\\\0\u{2028}😀";
    let env = Attributes::from([("env".to_owned(), "test".to_owned())]);
    client.write(SERVICE, &[("a:1", "1"), ("a:2", odd), ("b/ключ", "")], Some(&env))?;
    check("write", true);
    let empty = client.get(SERVICE, "b/ключ")?;
    check("get", client.get(SERVICE, "a:2")?.as_deref() == Some(odd) && empty.as_deref() == Some(""));
    check("absent", client.get(SERVICE, "nothing")?.is_none());
    let read = client.read(SERVICE, &["b/ключ", "nothing", "a:1"])?;
    let told: Vec<_> = read.iter().map(|each| (each.target.as_str(), each.value.as_str())).collect();
    check("order", told == [("b/ключ", ""), ("a:1", "1")] && read.iter().all(|each| each.attributes == env));
    check("prefix", names(client.read_prefix(SERVICE, &["a:"])?) == "a:1 a:2");
    let found = client.search(SERVICE, &[])?;
    check("search", found.iter().all(|each| each.value.is_empty()) && names(found) == "a:1 a:2 b/ключ");
    client.check(SERVICE)?;
    check("check", true);
    let long = "é".repeat(120_000);
    client.write(SERVICE, &[("long", &long)], None)?;
    for at in 0..40 {
        let (target, wanted) = if at % 2 == 1 { ("long", long.as_str()) } else { ("a:1", "1") };
        assert!(client.get(SERVICE, target)?.as_deref() == Some(wanted));
    }
    check("many", true);
    let refused = client.get("not-granted", "x");
    let right = matches!(refused, Err(Error::Rejected { ref reason, denied: true }) if reason == "service_not_allowed");
    check("denied", right && client.get(SERVICE, "a:1")?.as_deref() == Some("1"));
    client.delete(SERVICE, &["long", "nothing"])?;
    client.send(&Request {
        action: "delete",
        service: SERVICE,
        prefix: true,
        targets: &["a:"],
        ..Request::default()
    })?;
    check("delete", names(client.search(SERVICE, &[])?) == "b/ключ");
    Ok(client)
}

fn names(found: Vec<keychain_auth::Secret>) -> String {
    found.into_iter().map(|each| each.target).collect::<Vec<_>>().join(" ")
}

fn check(name: &str, right: bool) {
    assert!(right, "{name} is wrong");
    println!("ok {name}");
}
