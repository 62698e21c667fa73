// What Go's regexp package says of patterns, for comparison with hydrant's `Re`.
//
//	go run ./tests/go/re2 > tests/data/re2.json      the table that cargo test compares with
//	go run ./tests/go/re2 -check < patterns.tsv      answers for pairs from outside
//	go run ./tests/go/re2 -generate 100000           made-up pairs with answers
//
// Pairs come and go one a line, as JSON: {"pattern":..,"text":..,"match":true|false|null}; null means that Go refuses
// the pattern.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"runtime"
	"strings"
)

type pair struct {
	Pattern string `json:"pattern"`
	Text    string `json:"text"`
	Match   *bool  `json:"match"`
}

func answer(pattern, text string) pair {
	p := pair{Pattern: pattern, Text: text}
	if re, err := regexp.Compile(pattern); err == nil {
		match := re.MatchString(text)
		p.Match = &match
	}
	return p
}

// Where Go and Rust's regex crate are known to read the same text differently, and the ordinary things.
var table = [][2]string{
	{`^lo`, "local"}, {`(lo|x)cal$`, "local"}, {`(?i)LOCAL`, "xlocalx"}, {`.*`, ""}, {``, "x"}, {`c.*l$`, "local"},
	{`^\d+$`, "12"}, {`^\d+$`, "١٢"}, {`\D`, "١"}, {`^\w+$`, "é"}, {`\W`, "é"}, {`^\s$`, "\u00a0"}, {`^\s$`, "\v"},
	{`^[\s]$`, "\f"}, {`\S`, "\u00a0"}, {`é\b`, "éa"}, {`é\b`, "é"}, {`\bé`, "é"}, {`\B`, "é"}, {`\B`, "a"}, {`\B`, ""},
	{`^a\B`, "aéb"}, {`\B`, "aéb"}, {`(?i)\w`, "ſ"}, {`(?i)\W`, "ſ"}, {`(?i)[^\w]`, "K"}, {`(?i)k`, "K"}, {`(?i)ß`, "ẞ"},
	{`(?i)σ`, "ς"}, {`(?i)[a-z]`, "ſ"}, {`(?i)\pL`, "a"}, {`(?i)\p{Lu}`, "a"}, {`(?i)\P{Lu}`, "a"},
	{`(?i)[[:upper:]]`, "a"},
	{`(?i)[[:^upper:]]`, "a"}, {`[a&&b]`, "&"}, {`^[a&&b]$`, "b"}, {`[a~~b]`, "~"}, {`[a--b]`, "a"}, {`[--b]`, "."},
	{`[a-b-c]`, "-"}, {`[]a]`, "]"}, {`[^]a]`, "]"}, {`[[a]`, "["}, {`[[:alpha:]x]`, "1"}, {`[[:alpha:]x]`, "x"},
	{`[[:word:]]`, "_"}, {`[[:nope:]]`, "n"}, {`[[:alpha]`, ":"}, {`[\w-.]`, "-"}, {`[a-\d]`, "a"}, {`[\d-z]`, "-"},
	{`[z-a]`, "z"}, {`[]`, "]"}, {`[^\x00-\x{10FFFF}]`, "a"}, {`[a#b]`, "#"}, {`a b # c`, "a b # c"},
	{`\Qa.b\E+`, "a.bb"}, {`\Qa.b`, "axb"}, {`\Q\E`, "x"}, {`a\Q*\E`, "a*"}, {`a+\Q\E?$`, ""}, {`\Qab\E{2}`, "abb"},
	{`a{,3}`, "a{,3}"}, {`a{`, "a{"}, {`{`, "{"}, {`a{2}`, "aa"}, {`^a{2,}$`, "aaa"}, {`a{1001}`, "a"}, {`a{1000}`, "a"},
	{`(a{100}){11}`, "a"}, {`(a{10}){10}`, strings.Repeat("a", 100)}, {`a{3,2}`, "a"}, {`a{01}`, "a{01}"},
	{`a{2}{3}`, "a"},
	{`a**`, "a"}, {`a*?`, "a"}, {`a+*`, "a"}, {`a???`, "a"}, {`*a`, "a"}, {`(*a)`, "a"}, {`a|*`, "a"},
	{`^*`, "a"}, {`(?i)*a`, "a"},
	{`a(?i)*$`, ""}, {`\b+`, "a"}, {`(|a)+`, "a"}, {`()`, ""}, {`(|)`, "x"}, {`a||b`, "c"}, {`(a`, "a"},
	{`a)`, "a"}, {`(?:a`, "a"},
	{`(?P<n>a)`, "a"}, {`(?<n>a)`, "a"}, {`(?P<n>a)(?P<n>b)`, "ab"}, {`(?P<n-m>a)`, "a"}, {`(?P=n)`, "a"}, {`(?P>n)`, "a"},
	{`(?=a)`, "a"}, {`(?!a)`, "a"}, {`(?<=a)b`, "ab"}, {`(?#c)a`, "a"}, {`(?x) a`, "a"}, {`(?R)a`, "a"},
	{`(?u)a`, "a"}, {`(?)a`, "a"},
	{`(?-)a`, "a"}, {`(?i-)a`, "a"}, {`(?-i)A`, "a"}, {`(?i)a(?-i)b`, "AB"}, {`(?i:a)b`, "AB"},
	{`((?i)a)b`, "Ab"}, {`(?U)a+`, "a"},
	{`(?s).`, "\n"}, {`.`, "\n"}, {`.`, "\r"}, {`(?s-s:.)`, "\n"}, {`a$`, "a\n"}, {`(?m)a$`, "a\nb"},
	{`(?m)^b`, "a\nb"}, {`^b`, "a\nb"},
	{`(?m)a$`, "a\r\nb"}, {`\Ab`, "a\nb"}, {`a\z`, "a\n"}, {`a\Z`, "a"}, {`\C`, "a"}, {`\Gab`, "ab"},
	{`\Kab`, "ab"}, {`\<a`, "<a"},
	{`a\>`, "a>"}, {`\_`, "_"}, {`\-`, "-"}, {`\é`, "é"}, {`\q`, "q"}, {`\e`, "\x1b"}, {`\07`, "\a"},
	{`\12`, "\n"}, {`\012`, "\n"},
	{`\1`, "1"}, {`(a)\1`, "aa"}, {`\8`, "8"}, {`\400`, "Ā"}, {`\x41`, "A"}, {`\x4`, "A"}, {`\x{41}`, "A"},
	{`\x{}`, "A"}, {`\x{110000}`, "A"},
	{`\x{000000000041}`, "A"}, {`\x{D800}`, "a"}, {`[\x{D7FF}-\x{E000}]`, "\ue000"}, {`\u0041`, "A"},
	{`\U00000041`, "A"}, {`\a\f\t\n\r\v`, "\a\f\t\n\r\v"},
	{`\pL`, "é"}, {`\PL`, "é"}, {`\p{L}`, "1"}, {`\p{^L}`, "1"}, {`\P{^L}`, "1"}, {`\p{Greek}`, "λ"},
	{`\p{greek}`, "λ"}, {`\p{Letter}`, "a"},
	{`\p{lowercase_letter}`, "a"}, {`\p{LC}`, "a"}, {`\p{Cn}`, "\u0378"}, {`\p{C}`, "\u0378"},
	{`\p{Any}`, "x"}, {`\p{ASCII}`, "é"},
	{`\p{Assigned}`, "\u0378"}, {`\p{Cs}`, "a"}, {`\p{Old_Italic}`, "𐌀"}, {`\p{Alphabetic}`, "a"},
	{`\p{Script=Greek}`, "λ"}, {`\p{gc=L}`, "a"},
	{`\p{Emoji}`, "😀"}, {`\p{}`, "a"}, {`\p`, "p"}, {`\pZ`, " "}, {`[\pL\d]`, "5"}, {`[^\pL]`, "5"},
	{`[\P{L}]`, "5"}, {`\`, `\`}, {`a\`, "a"},
	{`😀+`, "😀😀"}, {`^.$`, "😀"}, {`^..$`, "é"}, {`[é-ü]`, "ö"}, {`(?i)É`, "é"}, {`x{0}`, ""}, {`(?:a|b){2,3}$`, "abab"},
	{`(?i)straße`, "STRASSE"},
	{`^(local|none)$`, "none"}, {`^[a-z][a-z0-9-]*(\.[a-z0-9-]+)*$`, "m1.example.com"},
	{`^10\.0\.\d{1,3}\.\d{1,3}$`, "10.0.12.7"},
}

// Pieces that patterns are made of at random: chosen so that most are right and the seams are odd.
var pieces = []string{
	"a", "b", "A", "é", "k", "s", "-", ".", "^", "$", "|", "(", ")", "(?:", "(?i)", "(?i:", "(?s)",
	"(?m)", "(?U)", "(?-i)", "(?P<n>", "*", "+", "?", "*?",
	"{2}", "{0,1}", "{1,}", "{", "}", ",", "{,2}", "[", "]", "[^", "[a-c]", "[^a-c]", "[[:alpha:]]",
	"[[:^digit:]x]", "[:alpha:]", "&&", "~~", "--", "[a&&b]",
	`\d`, `\D`, `\w`, `\W`, `\s`, `\S`, `\b`, `\B`, `\A`, `\z`, `\Q`, `\E`, `\pL`, `\PL`, `\p{Greek}`,
	`\p{^Lu}`, `\p{Nd}`, `\x41`, `\x{e9}`, `\07`, `\1`, `\.`, `\-`, `\n`,
	"#", " ", "\n", "_", "1", "ſ", "K", "<", ">", ":", "=", "!", "/",
}

var texts = []string{"", "a", "b", "A", "é", "É", "ab", "ba", "aab", "a-b", "k", "K", "s",
	"ſ", "1", "a1", "\n", "a\nb", " ", "_", "α", "Ω", "a{,2}", "[a&&b]", "aéb", ".", "(a)", "A#é 1\n-kſ"}

func generate(count int, out *json.Encoder) {
	random := rand.New(rand.NewSource(1))
	for range count {
		var pattern strings.Builder
		for range 1 + random.Intn(9) {
			pattern.WriteString(pieces[random.Intn(len(pieces))])
		}
		out.Encode(answer(pattern.String(), texts[random.Intn(len(texts))]))
	}
}

func check(in *bufio.Scanner, out *json.Encoder) {
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var p pair
		if err := json.Unmarshal(in.Bytes(), &p); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		out.Encode(answer(p.Pattern, p.Text))
	}
}

func main() {
	fromOutside := flag.Bool("check", false, "answer pairs from standard input")
	count := flag.Int("generate", 0, "make up so many pairs")
	flag.Parse()
	buffered := bufio.NewWriter(os.Stdout)
	defer buffered.Flush()
	out := json.NewEncoder(buffered)
	out.SetEscapeHTML(false)
	switch {
	case *fromOutside:
		check(bufio.NewScanner(os.Stdin), out)
	case *count > 0:
		generate(*count, out)
	default:
		out.Encode(map[string]string{"go": runtime.Version()})
		for _, row := range table {
			out.Encode(answer(row[0], row[1]))
		}
	}
}
