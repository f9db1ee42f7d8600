// A checkpoint of one file: what the manifest and the file's header say, and what is read by them. An input is both
// texts; sizes and checksums are made to fit, since a wrong one would be all that is ever seen.
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "tests/checkpoint/step_store/toy_states.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/manifest_checksum.h"

namespace autoglm::fuzz {
namespace {

namespace fs = std::filesystem;

// Everything that it says it has must be there.
void read_all(const CheckpointReader& reader) {
  for (const Manifest::Kind& kind : reader.manifest().kinds) {
    for (const Manifest::Parameter& parameter : reader.manifest().parameters) {
      const auto elements = static_cast<std::size_t>(parameter.num_elements());
      std::vector<std::byte> bytes(elements * dtype_size(kind.dtype));
      reader.read(kind.name, parameter.name, 0, bytes);
      reader.read(kind.name, parameter.name, parameter.num_elements() / 2,
                  std::span(bytes).first((elements - elements / 2) * dtype_size(kind.dtype)));
    }
  }
}

}  // namespace

std::vector<std::string> seeds() {
  const testing::ToyStates states;
  const StepStore store(folder(), states.run);
  states.save_whole(store, 1, 1);
  const fs::path saved = store.folder_of(1);
  std::string seed = text_of(saved / kManifestName).append(kBetween);
  seed += SafetensorsFile::open(saved / state_file_name(0, 1)).header().text;
  store.remove_all();
  std::string overflow = seed;
  const std::string name = "master/a.weight/";
  overflow.replace(overflow.find(name) + name.size(), 1,
                   std::to_string(std::numeric_limits<std::int64_t>::max()));
  return {seed, overflow};
}

std::vector<std::string> words() {
  return {"master/a.weight/0", "moment1/b.bias/",      "\"F32\"",    "\"BF16\"",
          "\"shape\":[0]",     "/9223372036854775807", "\"moment2\""};
}

void read(std::string_view input) {
  Manifest manifest = parse_manifest(with_checksum(std::string(next_text(input))), "manifest");
  const std::string file = file_of(next_text(input));
  ChecksumSeries sums;
  sums.add(as_bytes(file));
  manifest.files[0].bytes = file.size();
  manifest.files[0].checksums = sums.finish();
  write(folder() / kManifestName, manifest_text(manifest));
  write(folder() / state_file_name(0, 1), file);
  const CheckpointReader reader = CheckpointReader::open(folder());
  read_all(reader);
  reader.verify(0, 1);
}

}  // namespace autoglm::fuzz
