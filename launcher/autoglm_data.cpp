// autoglm-data: shows what training would see of a data set.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/units.h"
#include "checkpoint/file.h"
#include "checkpoint/model_folder.h"
#include "launcher/command_main.h"
#include "launcher/options/data_options_binding.h"
#include "launcher/report/build_info.h"
#include "launcher/report/data_report.h"
#include "sharding/host/processors.h"

namespace {

using namespace autoglm;

constexpr int kPlainColumns = 80;  // where there is no terminal

enum class Color { automatic, always, never };

struct Options {
  std::filesystem::path model;
  DataOptions data;
  std::int64_t show = 0;
  std::int64_t threads = std::min(threads_of_this_process(), 64);
  Color color = Color::automatic;
  bool json = false;
};

void bind(OptionTable& table, Options& options) {
  table.begin_group("Required");
  table.add_path("model", "DIR", options.model,
                 "model directory in the Hugging Face layout; its tokenizer is used");
  bind_data_files(table, options.data);
  table.begin_group("Data");
  bind_data_options(table, options.data);
  bind_seed(table, options.data.seed);
  table.begin_group("Output");
  table.add_integer("show", options.show, {}, "samples to print, trained tokens in colour or in brackets");
  table.add_flag("json", options.json,
                 "print one object per sample and line, {\"ids\": [...], \"labels\": [...]}");
  table.add_choice<Color>("color", options.color,
                          {{"auto", Color::automatic}, {"always", Color::always}, {"never", Color::never}},
                          "colour on a terminal only, always, or never");
  table.add_integer("threads", options.threads, {1, 1024}, "threads that read and tokenize");
  table.require({"model", "data"});
}

void write_out(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    fail(ExitCode::io_failed, "writing to standard output failed");
  }
}

Dataset load(const Options& options, const Tokenizer& tokenizer, Console& console) {
  const ChatTemplate chat_template =
      ChatTemplate::select(options.data.template_name, options.model, tokenizer, options.data.end_of_turn);
  if (options.data.end_of_turn == EndOfTurn::eos && !chat_template.uses_end_of_turn()) {
    console.print(fmt::format(
        "warning: --eot eos changes nothing with the template {}, whose answers end with a token of "
        "their own",
        chat_template.name()));
  }
  LoadContext context;
  context.num_threads = static_cast<int>(options.threads);
  context.progress = [&](std::uint64_t done, std::uint64_t total) {
    console.set_live_line(fmt::format("reading: {} of {}", format_bytes(static_cast<std::int64_t>(done)),
                                      format_bytes(static_cast<std::int64_t>(total))));
  };
  Dataset dataset = load_dataset(options.data, tokenizer, chat_template, context);
  console.set_live_line("");
  return dataset;
}

void report(const Options& options, const Dataset& dataset, const Tokenizer& tokenizer, int columns) {
  write_out(format_data_summary(dataset));
  write_out(format_length_histogram(dataset.summary().lengths, options.data.sequence_length,
                                    columns > 0 ? columns : kPlainColumns));
  const bool color =
      options.color == Color::always || (options.color == Color::automatic && wants_color(columns));
  const auto count =
      std::min<std::uint64_t>(static_cast<std::uint64_t>(options.show), dataset.summary().num_pieces);
  for (std::uint64_t i = 0; i < count; ++i)
    write_out(fmt::format("\n{}", format_sample(dataset, i, tokenizer, color)));
}

int run(const Options& options, Console& console) {
  // A folder may hold a tokenizer alone; one that holds neither is better explained as no model.
  if (!name_exists(options.model / "tokenizer.json")) require_model_folder(options.model);
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  const Dataset dataset = load(options, tokenizer, console);
  if (options.json) {
    for (std::size_t i = 0; i < dataset.summary().num_pieces; ++i) write_out(format_sample_json(dataset, i));
  } else {
    report(options, dataset, tokenizer, terminal_columns(STDOUT_FILENO)());
  }
  if (std::fflush(stdout) != 0) fail(ExitCode::io_failed, "writing to standard output failed");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  OptionTable table(
      "autoglm-data", "autoglm-data --model DIR --data FILE... [options]",
      "Shows what training would see: samples, tokens, lengths, rows, and what is dropped or cut.");
  bind(table, options);
  return command_main(argc, argv,
                      {"autoglm-data", version_of("autoglm-data"),
                       [&](const auto& arguments) { return table.parse(arguments); },
                       [&] { return table.help(help_columns(STDOUT_FILENO)); },
                       [&](const auto&, Console& console) { return run(options, console); }});
}
