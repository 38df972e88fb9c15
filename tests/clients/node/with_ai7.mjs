import * as sdk from "ai7";
import { createOpenAICompatible } from "compatible3";
import { runWith } from "./ai.mjs";

runWith(sdk, createOpenAICompatible);
