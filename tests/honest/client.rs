// The same in Rust: client SOCKET REQUEST COUNT
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let mut granted = 0;
    for _ in 0..words[3].parse::<u32>().unwrap() {
        let mut connection = UnixStream::connect(&words[1])?;
        connection.write_all(format!("{}\n", words[2]).as_bytes())?;
        let mut answer = String::new();
        BufReader::new(&connection).read_line(&mut answer)?;
        if answer.contains("\"success\"") {
            granted += 1;
        } else {
            println!("{answer}");
        }
    }
    println!("granted {granted}");
    Ok(())
}
