//! Arithmetic: a recursive-descent parser that evaluates as it goes, bounded in length and depth.

/// The longest expression in bytes.
pub(super) const MAX_BYTES: usize = 1000;

/// How deep parentheses, signs and exponents may nest: the stack is small in wasm.
const MAX_DEPTH: usize = 100;

/// The value of an expression as text.
pub(super) fn evaluate(expression: &str) -> Result<String, String> {
    if expression.len() > MAX_BYTES {
        return Err(format!("the expression is longer than {MAX_BYTES} bytes"));
    }
    let mut parser = Parser { text: expression, at: 0, depth: 0 };
    let value = parser.sum()?;
    if let Some(rest) = parser.peek() {
        return Err(parser.wrong(&format!("`{rest}` is not expected")));
    }
    if !value.is_finite() {
        return Err("the result is not a finite number".to_owned());
    }
    // Negative zero would read as "-0".
    Ok((value + 0.0).to_string())
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn sum(&mut self) -> Result<f64, String> {
        let mut value = self.product()?;
        loop {
            if self.eat('+') {
                value += self.product()?;
            } else if self.eat('-') {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.unary()?;
        loop {
            if self.eat('*') {
                value *= self.unary()?;
            } else if self.eat('/') {
                value /= self.divisor()?;
            } else if self.eat('%') {
                value %= self.divisor()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn divisor(&mut self) -> Result<f64, String> {
        let value = self.unary()?;
        if value == 0.0 { Err(self.wrong("division by zero")) } else { Ok(value) }
    }

    /// A sign binds weaker than `^`: `-2 ^ 2` is -4.
    fn unary(&mut self) -> Result<f64, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.wrong(&format!("more than {MAX_DEPTH} levels are nested")));
        }
        let value = if self.eat('-') {
            -self.unary()?
        } else if self.eat('+') {
            self.unary()?
        } else {
            let base = self.atom()?;
            if self.eat('^') { base.powf(self.unary()?) } else { base }
        };
        self.depth -= 1;
        Ok(value)
    }

    fn atom(&mut self) -> Result<f64, String> {
        match self.peek() {
            None => Err(self.wrong("a number is missing at the end")),
            Some('(') => {
                self.eat('(');
                let value = self.sum()?;
                self.expect(')')?;
                Ok(value)
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.name(),
            Some(c) => Err(self.wrong(&format!("`{c}` is not expected"))),
        }
    }

    fn number(&mut self) -> Result<f64, String> {
        let rest = self.rest();
        let mut end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        // An exponent, but not the constant `e` after a number.
        let exponent = rest.get(end..).and_then(|tail| tail.strip_prefix(['e', 'E']));
        if let Some(exponent) = exponent {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let count = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            if count > 0 {
                end += 1 + (exponent.len() - digits.len()) + count;
            }
        }
        let text = rest.get(..end).unwrap_or(rest);
        let value = text.parse().map_err(|_| self.wrong(&format!("`{text}` is not a number")))?;
        self.at += end;
        Ok(value)
    }

    fn name(&mut self) -> Result<f64, String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or(rest);
        match name {
            "pi" | "e" => {
                self.at += end;
                return Ok(if name == "pi" { std::f64::consts::PI } else { std::f64::consts::E });
            }
            _ => {}
        }
        let unknown = self.wrong(&format!("`{name}` is neither a function nor a constant"));
        self.at += end;
        if !self.eat('(') {
            return Err(unknown);
        }
        let mut values = vec![self.sum()?];
        while self.eat(',') {
            values.push(self.sum()?);
        }
        self.expect(')')?;
        match (name, values.as_slice()) {
            ("min", values) => Ok(values.iter().copied().fold(f64::INFINITY, f64::min)),
            ("max", values) => Ok(values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            (_, [value]) => function(name).map(|function| function(*value)).ok_or(unknown),
            _ if function(name).is_some() => Err(self.wrong(&format!("`{name}` takes one argument"))),
            _ => Err(unknown),
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next character that is not a space.
    fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.eat(wanted) { Ok(()) } else { Err(self.wrong(&format!("`{wanted}` is missing"))) }
    }

    fn wrong(&self, what: &str) -> String {
        let column = self.text.get(..self.at).unwrap_or(self.text).chars().count() + 1;
        format!("{what} (column {column})")
    }
}

fn function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "round" => f64::round,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_bind_as_in_mathematics() {
        for (expression, value) in [
            ("2 + 3 * 4", "14"),
            ("(2 + 3) * 4", "20"),
            ("10 - 4 - 3", "3"),
            ("2 ^ 3 ^ 2", "512"),
            ("-2 ^ 2", "-4"),
            ("2 ^ -1", "0.5"),
            ("2 * (3 + 4) ^ 2 / sqrt(16)", "24.5"),
            ("7 % 4", "3"),
            ("max(1, 2 * 3, min(9, 4))", "6"),
            ("1.5e3 + 2E-1", "1500.2"),
            ("-0", "0"),
            ("round(pi)", "3"),
        ] {
            assert_eq!(evaluate(expression).as_deref(), Ok(value), "{expression}");
        }
    }

    #[test]
    fn a_wrong_expression_is_refused_with_the_place() {
        for (expression, message) in [
            ("2 +", "a number is missing at the end (column 4)"),
            ("2 3", "`3` is not expected (column 3)"),
            ("(1", "`)` is missing (column 3)"),
            ("1 / 0", "division by zero (column 6)"),
            ("foo(1)", "`foo` is neither a function nor a constant (column 1)"),
            ("sqrt(1, 2)", "`sqrt` takes one argument (column 11)"),
            ("1.2.3", "`1.2.3` is not a number (column 1)"),
            ("sqrt(-1)", "the result is not a finite number"),
            ("é", "`é` is not expected (column 1)"),
        ] {
            assert_eq!(evaluate(expression).as_ref().err().map(String::as_str), Some(message), "{expression}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        assert!(evaluate(&"(".repeat(900)).unwrap_err().contains("nested"));
        assert!(evaluate(&"-".repeat(900)).unwrap_err().contains("nested"));
        assert!(evaluate(&"1+".repeat(900)).unwrap_err().contains("longer"));
    }
}
