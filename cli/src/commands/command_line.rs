//! The command line as it is kept: what may be a secret is left out.

use replay::without_users;

/// Flags whose values are secrets, or may be.
const SECRET: [&str; 5] = ["--password", "--token", "--mongo", "--header", "-H"];
/// Flags whose values are servers; the scheme before a user may be left out.
const SERVERS: [&str; 2] = ["--server", "-s"];

/// That of this process.
pub fn command_line() -> Vec<String> {
    let arguments = shown(std::env::args().skip(1));
    std::iter::once("retempo".to_owned()).chain(arguments).collect()
}

fn shown(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut before = String::new();
    arguments
        .map(|argument| {
            // `--token SECRET` is two arguments; `--token=SECRET` and `-HSECRET` are one.
            let (flag, value) = match &argument {
                long if long.starts_with("--") => {
                    long.split_once('=').map_or(("", long.as_str()), |(flag, _)| long.split_at(flag.len() + 1))
                }
                short if short.starts_with('-') && short.is_char_boundary(2) => short.split_at(2),
                value => ("", value.as_str()),
            };
            let of = if flag.is_empty() { before.as_str() } else { flag.trim_end_matches('=') };
            let shown = match value.rsplit_once('@') {
                _ if SECRET.contains(&of) && !value.is_empty() => format!("{flag}***"),
                Some((_, server)) if SERVERS.contains(&of) && !value.contains("://") => format!("{flag}***@{server}"),
                _ => format!("{flag}{}", without_users(value)),
            };
            before = argument;
            shown
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_secret_is_shown() {
        let line = "replay a.parquet -s u:s3cret@h:4222 --server=nats://u:s3cret@h,nats://t:s3cret@i -sc:s3cret@j --token s3cret --token=s3cret \
                    --password s3cret --mongo=mongodb://u:s3cret@m -H Cookie:s3cret -HCookie:s3cret --base-url http://u:s3c,ret@h/u@v?w -o run-1";
        let shown = super::shown(line.split_whitespace().map(str::to_owned)).join(" ");
        let wanted = "replay a.parquet -s ***@h:4222 --server=nats://***@h,nats://***@i -s***@j --token *** --token=*** \
                      --password *** --mongo=*** -H *** -H*** --base-url http://***@h/u@v?w -o run-1";
        assert_eq!(shown, wanted);
    }
}
