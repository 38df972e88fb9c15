import * as sdk from "ai7";
import { runWith } from "./usechat.mjs";

runWith(sdk);
