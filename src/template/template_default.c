/* SPDX-License-Identifier: MIT
 * template_default.c — chat formats for model files that bring no template.
 * Written for kvasir after the formats' public descriptions (ChatML, Llama 2 and 3 model cards,
 * Gemma's formatting guide); they take content as text or as parts, and never raise. */
#include <string.h>

#include "base/check.h"
#include "template/template_chat.h"

/* The text of a message, whatever form its content has. */
#define TEXT_MACRO                                                                      \
    "{%- macro text(content) -%}\n"                                                     \
    "{%- if content is string -%}{{ content }}\n"                                       \
    "{%- elif content -%}\n"                                                            \
    "{%- for part in content if part.type == 'text' -%}{{ part.text }}{%- endfor -%}\n" \
    "{%- endif -%}\n"                                                                   \
    "{%- endmacro -%}\n"

/* Tools as Qwen and Hermes models learnt them. */
static const char chatml[] = TEXT_MACRO
    "{%- set first = messages[0] if messages else {} -%}\n"
    "{%- if tools -%}\n"
    "{{ '<|im_start|>system\\n' }}\n"
    "{%- if first.role == 'system' -%}{{ text(first.content) + '\\n\\n' }}{%- endif -%}\n"
    "{{ '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\n"
    "You are provided with function signatures within <tools></tools> XML tags:\\n<tools>' }}\n"
    "{%- for tool in tools -%}{{ '\\n' + tool | tojson }}{%- endfor -%}\n"
    "{{ '\\n</tools>\\n\\nFor each function call, return a json object with function name and "
    "arguments "
    "within <tool_call></tool_call> XML tags:\\n<tool_call>\\n"
    "{\"name\": <function-name>, \"arguments\": <args-json-object>}\\n</tool_call><|im_end|>\\n' "
    "}}\n"
    "{%- endif -%}\n"
    "{%- for message in messages -%}\n"
    "{%- if message.role == 'tool' -%}\n"
    "{%- if loop.first or loop.previtem.role != 'tool' -%}{{ '<|im_start|>user' }}{%- endif -%}\n"
    "{{ '\\n<tool_response>\\n' + text(message.content) + '\\n</tool_response>' }}\n"
    "{%- if loop.last or loop.nextitem.role != 'tool' -%}{{ '<|im_end|>\\n' }}{%- endif -%}\n"
    "{%- elif not (tools and loop.first and message.role == 'system') -%}\n"
    "{{ '<|im_start|>' ~ message.role ~ '\\n' ~ text(message.content) }}\n"
    "{%- for call in message.tool_calls or [] -%}\n"
    "{%- set f = call.function or call -%}\n"
    "{%- if message.content or not loop.first -%}{{ '\\n' }}{%- endif -%}\n"
    "{{ '<tool_call>\\n{\"name\": \"' ~ f.name ~ '\", \"arguments\": ' ~ "
    "(f.arguments if f.arguments is string else f.arguments | tojson) ~ '}\\n</tool_call>' }}\n"
    "{%- endfor -%}\n"
    "{{ '<|im_end|>\\n' }}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{ '<|im_start|>assistant\\n' }}\n"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}\n"
    "{%- endif -%}\n";

static const char llama3[] = TEXT_MACRO
    "{{ bos_token | default('<|begin_of_text|>') }}\n"
    "{%- for message in messages -%}\n"
    "{{ '<|start_header_id|>' ~ ('ipython' if message.role == 'tool' else message.role) ~ "
    "'<|end_header_id|>\\n\\n' ~ text(message.content) | trim ~ '<|eot_id|>' }}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}\n";

/* A system message goes into the first user turn. */
static const char llama2[] = TEXT_MACRO
    "{%- set ns = namespace(system='') -%}\n"
    "{%- for message in messages -%}\n"
    "{%- if message.role == 'system' -%}\n"
    "{%- set ns.system = '<<SYS>>\\n' ~ text(message.content) ~ '\\n<</SYS>>\\n\\n' -%}\n"
    "{%- elif message.role == 'assistant' -%}\n"
    "{{ ' ' ~ text(message.content) | trim ~ ' ' ~ eos_token | default('</s>') }}\n"
    "{%- else -%}\n"
    "{{ bos_token | default('<s>') ~ '[INST] ' ~ ns.system ~ text(message.content) | trim ~ ' "
    "[/INST]' }}\n"
    "{%- set ns.system = '' -%}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n";

/* A system message goes into the turn behind it; the assistant is called model. */
static const char gemma[] =
    TEXT_MACRO "{{ bos_token | default('<bos>') }}\n"
               "{%- set ns = namespace(prefix='') -%}\n"
               "{%- for message in messages -%}\n"
               "{%- if message.role in ['system', 'developer'] -%}\n"
               "{%- set ns.prefix = ns.prefix ~ text(message.content) ~ '\\n\\n' -%}\n"
               "{%- else -%}\n"
               "{{ '<start_of_turn>' ~ ('model' if message.role == 'assistant' else 'user') ~ "
               "'\\n' ~ ns.prefix ~ "
               "text(message.content) | trim ~ '<end_of_turn>\\n' }}\n"
               "{%- set ns.prefix = '' -%}\n"
               "{%- endif -%}\n"
               "{%- endfor -%}\n"
               "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}\n";

const char *template_default(const char *arch, struct template_vocabulary v)
{
    static const struct {
        const char *token, *source;
    } by_token[] = {
        {"<|im_start|>", chatml},
        {"<|start_header_id|>", llama3},
        {"<start_of_turn>", gemma},
    };
    for (size_t i = 0; i < ARRAY_COUNT(by_token); i++)
        if (v.has && v.has(v.context, by_token[i].token))
            return by_token[i].source;
    if (strncmp(arch, "gemma", 5) == 0)
        return gemma;
    if (strncmp(arch, "qwen", 4) == 0)
        return chatml;
    return strcmp(arch, "llama") == 0 ? llama2 : NULL;
}
