use schedule::Expect;
use std::fmt::Write;
use std::ops::Deref;
use std::sync::Arc;

/// The answers an op should cause; shared, because most ops of an action expect the same.
///
/// In the log it is a text, which any reader keeps as a dictionary: `0:1 1:13` is one of answer 0 and thirteen of
/// answer 1, `1:+` at least one of answer 1.
///
/// ```
/// use schedule::Expect;
/// let expected = runlog::Expected::from([Expect { answer: 0, count: Some(1) }, Expect { answer: 1, count: None }]);
/// assert_eq!(expected.text(), "0:1 1:+");
/// assert_eq!(runlog::Expected::parse("0:1 1:+"), Some(expected));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expected(Arc<(Vec<Expect>, String)>);

impl Expected {
    /// As it stands in the log.
    pub fn text(&self) -> &str {
        &self.0.1
    }

    /// Reads the text of a log; `None` if it is another.
    pub fn parse(text: &str) -> Option<Expected> {
        let item = |item: &str| {
            let (answer, count) = item.split_once(':')?;
            let count = if count == "+" { None } else { Some(count.parse().ok()?) };
            Some(Expect { answer: answer.parse().ok()?, count })
        };
        text.split_ascii_whitespace().map(item).collect::<Option<Vec<_>>>().map(Expected::from)
    }
}

impl<L: Into<Vec<Expect>>> From<L> for Expected {
    fn from(list: L) -> Expected {
        let list = list.into();
        let mut text = String::new();
        for e in &list {
            let count = e.count.map_or("+".to_owned(), |n| n.to_string());
            let space = if text.is_empty() { "" } else { " " };
            write!(text, "{space}{}:{count}", e.answer).expect("a String takes everything");
        }
        Expected(Arc::new((list, text)))
    }
}

impl Deref for Expected {
    type Target = [Expect];
    fn deref(&self) -> &[Expect] {
        &self.0.0
    }
}
