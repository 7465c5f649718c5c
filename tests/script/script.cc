#include "tests/script/script.hh"

#include <cmath>
#include <sstream>

namespace tto::script {
namespace {

std::vector<std::string> words_of(const std::string& line) {
  std::vector<std::string> words;
  std::string word;
  bool in_options = false;
  for (const char c : line + " ") {
    if (!in_options && (c == ' ' || c == '\t')) {
      if (!word.empty()) words.push_back(word);
      word.clear();
      continue;
    }
    if (!in_options && c == '#') break;
    word += c;
    if (c == '<') in_options = true;
    if (c == '>') in_options = false;
  }
  if (in_options) throw Failure("'<' without '>'");
  if (!word.empty() && words.empty() && word[0] != '#') words.push_back(word);
  return words;
}

/// "+40ms~5ms": when, and how late it may be.
void take_time(const std::string& word, Statement& s) {
  const size_t wave = word.find('~');
  s.after = duration_of(word.substr(1, wave == std::string::npos ? wave : wave - 1));
  if (wave != std::string::npos) s.tolerance = duration_of(word.substr(wave + 1));
}

Statement statement_of(int line, const std::string& text) {
  Statement s;
  s.line = line;
  s.text = text;
  s.words = words_of(text);
  if (!s.words.empty() && s.words[0][0] == '+') {
    take_time(s.words[0], s);
    s.words.erase(s.words.begin());
    if (s.words.empty()) throw Failure("a time and nothing to do");
  }
  return s;
}

/// open passive|active [rtt D] [win N] [<options of the peer's SYN>]: ends established, socket in hand.
void write_out_open(const Statement& open, std::vector<Statement>& out) {
  std::string options = "<mss 1000>", window = "60000", rtt = "0ms";
  const auto& w = open.words;
  if (w.size() < 2 || (w[1] != "passive" && w[1] != "active")) throw Failure("open passive, or open active");
  for (size_t i = 2; i < w.size(); ++i) {
    if (w[i][0] == '<') options = w[i];
    else if (w[i] == "win" && i + 1 < w.size()) window = w[++i];
    else if (w[i] == "rtt" && i + 1 < w.size()) rtt = w[++i];
    else throw Failure("open: unknown word '" + w[i] + "'");
  }
  std::vector<std::string> lines;
  if (w[1] == "passive") {
    lines = {"listen", "in S 0 win " + window + " " + options, "out SA 0 ack 1", "+" + rtt + " in A 1 ack 1", "accept"};
  } else {
    lines = {"connect", "out S 0", "+" + rtt + " in SA 0 ack 1 win " + window + " " + options, "out A 1 ack 1"};
  }
  for (const std::string& line : lines) {
    out.push_back(statement_of(open.line, line));
    out.back().text = open.text + "   [" + line + "]";
  }
}

}  // namespace

Duration duration_of(const std::string& text) {
  constexpr struct {
    const char* unit;
    double ns;
  } kUnits[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"min", 60e9}, {"h", 3600e9}, {"days", 86400e9}};
  try {
    size_t used = 0;
    const double n = std::stod(text, &used);
    for (const auto& u : kUnits)
      if (text.substr(used) == u.unit && n >= 0) return nanoseconds(std::llround(n * u.ns));
  } catch (const std::logic_error&) {
  }
  throw Failure("not a time: '" + text + "' (wanted: 40ms, 1.5s, …)");
}

std::vector<Statement> parse_script(const std::string& text) {
  std::vector<Statement> statements;
  std::istringstream in(text);
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    try {
      Statement s = statement_of(number, line);
      if (s.words.empty()) continue;
      if (s.words[0] == "open") {
        write_out_open(s, statements);
      } else {
        statements.push_back(std::move(s));
      }
    } catch (const Failure& f) {
      throw Failure("line " + std::to_string(number) + ": " + f.what());
    }
  }
  if (statements.empty()) throw Failure("nothing in it");
  return statements;
}

}  // namespace tto::script
