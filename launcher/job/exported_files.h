// The files beside the trained weights: as they were read, but for what they say of the chat template.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/side_files.h"
#include "trainer/data/chat_template.h"

namespace autoglm {

// What was changed, one sentence each.
using FileChanges = std::vector<std::string>;

// Where the template that --template named is not the model's own, writes it as chat_template.jinja, and the
// token that ends its answers into the tokenizer's settings and the generation settings, so that other programs
// stop where a training's samples do.
FileChanges export_template(SideFiles& files, const ChatTemplate& chosen, const Tokenizer& tokenizer);

// Adds the token that ends the answers of the model's own template to the generation settings where these name
// other tokens only, as those of base models do.
FileChanges export_stop_tokens(SideFiles& files, const ChatTemplate& chosen, const Tokenizer& tokenizer);

// Says in config.json that the head is a matrix of its own.
void export_untied_head(SideFiles& files, FileChanges& changes);

}  // namespace autoglm
